"""Google Sheets as its REST API v4 speaks, over one grid in memory: what gspread and the dataset nodes ask of it."""

import json
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

SPREADSHEET = "1AbCdEfGhIjKlMnOpQrStUvWxYz0123456789abcdefg"
SHEET_ID = 7
_KEY = rsa.generate_private_key(65_537, 2048)
_PEM = _KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def service_account(base: str) -> str:
    """The JSON key of a service account whose tokens come from `base`."""
    return json.dumps(
        {
            "type": "service_account", "project_id": "p", "private_key_id": "k", "private_key": _PEM,
            "client_email": "bot@p.iam.gserviceaccount.com", "client_id": "1", "token_uri": f"{base}/token",
        }
    )  # fmt: skip


@dataclass
class FakeSheets:
    """`grid` holds the lines of the one worksheet; `notes` the developer metadata."""

    grid: list[list[Any]] = field(default_factory=list)
    notes: list[dict[str, Any]] = field(default_factory=list)
    formulas: int = 0
    updates: int = 0

    async def answer(self, request: web.Request) -> web.Response:
        if request.path == "/token":
            form = await request.post()
            assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
            return web.json_response({"access_token": "ya29.x", "expires_in": 3599, "token_type": "Bearer"})
        if request.headers.get("authorization") != "Bearer ya29.x":
            return _error(401, "UNAUTHENTICATED")
        if not request.path.startswith(f"/v4/spreadsheets/{SPREADSHEET}"):
            return _error(404, "NOT_FOUND")
        return await self._spreadsheet(request, request.path.removeprefix(f"/v4/spreadsheets/{SPREADSHEET}"))

    async def _spreadsheet(self, request: web.Request, what: str) -> web.Response:
        if what == "":
            properties = {"sheetId": SHEET_ID, "title": "Log", "index": 0, "gridProperties": {"rowCount": 1000}}
            about = {"title": "Trades", "locale": "en_US", "timeZone": "Etc/GMT"}
            sheets = [{"properties": properties}]
            return web.json_response({"spreadsheetId": SPREADSHEET, "properties": about, "sheets": sheets})
        if what.startswith("/values/"):
            return web.json_response(self._values(unquote(what.removeprefix("/values/")), request.query))
        body = await request.json()
        if what == "/developerMetadata:search":
            wanted = body["dataFilters"][0]["developerMetadataLookup"]["metadataKey"]
            found = [{"developerMetadata": note} for note in self.notes if note["metadataKey"] == wanted]
            return web.json_response({"matchedDeveloperMetadata": found} if found else {})
        assert what == ":batchUpdate"
        self.updates += 1
        for change in body["requests"]:
            ((kind, details),) = change.items()
            getattr(self, f"_{kind}")(details)
        return web.json_response({"spreadsheetId": SPREADSHEET, "replies": [{} for _ in body["requests"]]})

    def _values(self, range_: str, query: Any) -> dict[str, Any]:
        """Ranges as gspread asks: the sheet, one row (`A1:1`) or one column (`A1:A`)."""
        lines = self.grid
        if row := re.search(r"!A(\d+):\1$", range_):
            lines = self.grid[int(row[1]) - 1 : int(row[1])]
        elif re.search(r"!A1:A$|!A:A$", range_):
            lines = [line[:1] for line in self.grid]
        if query.get("majorDimension") == "COLUMNS":
            lines = [list(column) for column in zip(*lines, strict=True)]
        shown = [["" if cell is None else cell for cell in line] for line in lines]
        return {"range": range_, "majorDimension": "ROWS", **({"values": shown} if shown else {})}

    def _updateCells(self, details: dict[str, Any]) -> None:  # noqa: N802 - Google's name
        if "start" not in details:
            self.grid.clear()
            return
        self.grid[0:1] = [self._line(details["rows"][0])]

    def _appendCells(self, details: dict[str, Any]) -> None:  # noqa: N802
        self.grid += [self._line(line) for line in details["rows"]]

    def _createDeveloperMetadata(self, details: dict[str, Any]) -> None:  # noqa: N802
        self.notes.append({"metadataId": len(self.notes) + 100, **details["developerMetadata"]})

    def _updateDeveloperMetadata(self, details: dict[str, Any]) -> None:  # noqa: N802
        identity = details["dataFilters"][0]["developerMetadataLookup"]["metadataId"]
        note = next(note for note in self.notes if note["metadataId"] == identity)
        note["metadataValue"] = details["developerMetadata"]["metadataValue"]

    def _line(self, line: dict[str, Any]) -> list[Any]:
        cells = [cell.get("userEnteredValue", {}) for cell in line["values"]]
        self.formulas += sum("formulaValue" in cell for cell in cells)
        return [next(iter(cell.values()), None) for cell in cells]


def _error(code: int, status: str) -> web.Response:
    return web.json_response({"error": {"code": code, "message": status.lower(), "status": status}}, status=code)
