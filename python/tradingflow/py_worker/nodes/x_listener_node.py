"""New posts of an account on X (API v2)."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tradingflow.py_worker.kit import NOT_TAKEN, Json, Node, NodeContext, NodeInputs, NodeOutputs, NodeParams, Secret
from tradingflow.py_worker.kit.newness import mentions_any, only_new
from tradingflow.py_worker.kit.node import NodeFailed
from tradingflow.py_worker.kit.providers import ask_json, join_url, malformed

PROVIDER = "X"
_USER = "user"


class Params(NodeParams):
    account: str = Field(pattern=r"^@?\w{1,15}$", description="The account's name, with or without @")
    bearer_token: Secret = Field(description='Bearer token of an X app, as {"$secret": "name"}')
    keywords: tuple[str, ...] = Field(default=(), max_length=50, description="Only posts that mention one of these")
    max_results: int = Field(default=10, ge=5, le=100, description="How many posts to ask for")
    first_items: int = Field(default=1, ge=0, le=100, description="How many posts count as new in the first cycle")
    api_url: str = Field(default="https://api.x.com", description="Address of the API")


class Inputs(NodeInputs):
    trigger: Json = Field(default=None, description="Anything; X is asked when it arrives")


class Post(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    text: str
    created_at: str | None = None


class Outputs(NodeOutputs):
    latest_tweets: list[Post] = Field(
        default=NOT_TAKEN, description="New posts, the newest first; not taken when there are none"
    )


class XListenerNode(Node[Params, Inputs, Outputs]):
    type = "x_listener_node"
    title = "X posts"
    description = "Sends on the posts of an account on X that were not there before."
    category = "news"
    example: ClassVar[dict[str, Any]] = {"account": "ethereum", "bearer_token": {"$secret": "x"}}

    async def run(self, ctx: NodeContext, params: Params, inputs: Inputs) -> Outputs:
        headers = {"authorization": f"Bearer {await ctx.secrets.reveal(params.bearer_token)}"}
        user = await _user_id(ctx, params, headers)
        query = {"max_results": params.max_results, "tweet.fields": "created_at", "exclude": "retweets,replies"}
        url = join_url(params.api_url, "2", "users", user, "tweets", query=query)
        posts = _posts(await ask_json(ctx, PROVIDER, url, headers=headers))
        wanted = [post for post in posts if mentions_any(post.text, params.keywords)]
        fresh = await only_new(ctx, wanted, lambda post: post.id, first_time=params.first_items)
        return Outputs(latest_tweets=fresh) if fresh else Outputs()


async def _user_id(ctx: NodeContext, params: Params, headers: dict[str, str]) -> str:
    """The account's number, asked for once and remembered."""
    name = params.account.lstrip("@")
    known = await ctx.state.get(_USER)
    if isinstance(known, dict) and known.get("name") == name:
        return str(known["id"])
    answer = await ask_json(
        ctx, PROVIDER, join_url(params.api_url, "2", "users", "by", "username", name), headers=headers
    )
    if not isinstance(answer, dict) or "data" not in answer:
        raise NodeFailed("provider_refused", f"X knows no account {name}")
    identity = str(answer["data"]["id"]) if isinstance(answer["data"], dict) and "id" in answer["data"] else ""
    if not identity.isdigit():
        raise malformed(PROVIDER, "its answer names no account")
    await ctx.state.set(_USER, {"name": name, "id": identity})
    return identity


def _posts(answer: Json) -> list[Post]:
    try:
        return [Post.model_validate(post) for post in answer.get("data", [])]
    except (AttributeError, TypeError, ValidationError) as error:
        raise malformed(PROVIDER, "its answer is no list of posts") from error
