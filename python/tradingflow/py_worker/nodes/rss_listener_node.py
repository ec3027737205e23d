"""New items of an RSS or Atom feed."""

from __future__ import annotations

import asyncio
import codecs
import io
import re
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from tradingflow.py_worker.kit import NOT_TAKEN, Json, Node, NodeContext, NodeInputs, NodeOutputs, NodeParams
from tradingflow.py_worker.kit.newness import mentions_any, only_new
from tradingflow.py_worker.kit.providers import accept, malformed

LONGEST_SUMMARY = 2000
LONGEST_HEAD = 5000
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    *(("<?xm".encode(encoding), encoding) for encoding in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")),
)
_DECLARED = re.compile(rb"\s*<\?xml\s[^>]{0,200}?encoding\s*=\s*[\"']([\w.-]{1,40})[\"']")
_DECLARATION = re.compile(rb"\s*<\?xml\s[^>]*>")
_FIRST_ELEMENT = re.compile(rb"<\w")
_WIDER = {"gb2312": "gb18030"}  # what feeds declare, and what they are written in
_OF_HOST_NAMES = frozenset(("idna", "punycode"))  # reading these takes the square of the length


class Params(NodeParams):
    feed_url: str = Field(max_length=4000, description="Address of the feed")
    keywords: tuple[str, ...] = Field(default=(), max_length=50, description="Only items that mention one of these")
    max_items: int = Field(default=20, ge=1, le=200, description="Most items to send on in one cycle")
    first_items: int = Field(default=1, ge=0, le=200, description="How many items count as new in the first cycle")


class Inputs(NodeInputs):
    trigger: Json = Field(default=None, description="Anything; the feed is read when it arrives")


class Item(BaseModel):
    model_config = ConfigDict(frozen=True)

    id: str
    title: str
    link: str
    summary: str
    published: str | None


class Outputs(NodeOutputs):
    data_output_handle: list[Item] = Field(
        default=NOT_TAKEN, description="New items, the newest first; not taken when there are none"
    )


class RssListenerNode(Node[Params, Inputs, Outputs]):
    type = "rss_listener_node"
    title = "RSS feed"
    description = "Sends on the items of a feed that were not there before."
    category = "news"
    example: ClassVar[dict[str, Any]] = {"feed_url": "https://example.com/feed.xml", "keywords": ["ETH"]}

    async def run(self, ctx: NodeContext, params: Params, inputs: Inputs) -> Outputs:
        response = await ctx.http.request("GET", params.feed_url, timeout_s=15, max_body_bytes=3_000_000)
        accept(response, "the feed")
        items = await asyncio.to_thread(read_feed, response.body)
        wanted = [item for item in items if mentions_any(f"{item.title} {item.summary}", params.keywords)]
        fresh = await only_new(ctx, wanted, lambda item: item.id, first_time=params.first_items)
        return Outputs(data_output_handle=fresh[: params.max_items]) if fresh else Outputs()


def read_feed(body: bytes) -> list[Item]:
    """Raises DependencyUnavailable for what is no feed."""
    import feedparser

    parsed = feedparser.parse(io.BytesIO(_prepared(body)))
    if not parsed.get("version"):
        raise malformed("the feed", "neither RSS nor Atom")
    return [item for item in map(_item, parsed.entries) if item.id]


def _prepared(body: bytes) -> bytes:
    """The feed as UTF-8, without the declaration of an encoding and with a short head, which begins with a line break.

    The patterns by which feedparser looks for an encoding in the first line and for a doctype before the first element
    take the square of the length or its cube, and nothing else of the process runs meanwhile.
    """
    data = _utf8(body)
    declared = _DECLARATION.match(data)
    data = data[declared.end() :] if declared else data
    first = _FIRST_ELEMENT.search(data)
    head, rest = (data[: first.start()], data[first.start() :]) if first else (b"", data)
    if len(head) > LONGEST_HEAD:
        raise malformed("the feed", f"more than {LONGEST_HEAD} bytes before its first element")
    return b"\n" + re.sub(rb"\s+", b"\n", head) + rest


def _utf8(body: bytes) -> bytes:
    """By the mark at its beginning, the encoding it declares, or as most feeds are."""
    declared = _DECLARED.match(body)
    name = declared.group(1).decode().lower() if declared else "utf-8"
    named = () if name in _OF_HOST_NAMES else (_WIDER.get(name, name),)
    marked = next(((encoding,) for mark, encoding in _MARKS if body.startswith(mark)), ())
    for encoding in (*marked, *named, "utf-8"):
        try:
            return body.decode(encoding).encode(errors="replace")
        except (UnicodeError, LookupError):
            continue
    return body.decode("windows-1252", errors="replace").encode()


def _item(entry: Any) -> Item:
    return Item(
        id=str(entry.get("id") or entry.get("link") or entry.get("title") or "")[:500],
        title=str(entry.get("title", ""))[:500],
        link=str(entry.get("link", ""))[:2000],
        summary=str(entry.get("summary", ""))[:LONGEST_SUMMARY],
        published=str(entry["published"])[:100] if entry.get("published") else None,
    )
