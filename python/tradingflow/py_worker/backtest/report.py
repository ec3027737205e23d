"""One self-contained HTML page of a backtest: figures, charts and trades. Opens without a network.

Of the package plotly only its JavaScript is used; the figures are written as the JSON it draws.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from tradingflow.core.errors import Refused
from tradingflow.core.money import to_human
from tradingflow.py_worker.backtest import metrics
from tradingflow.py_worker.backtest.candles import Floats
from tradingflow.py_worker.backtest.ledger import TradeRecord
from tradingflow.py_worker.backtest.page import PAGE, card, table
from tradingflow.py_worker.backtest.result import BacktestResult, thinned, told
from tradingflow.py_worker.backtest.timeline import Timeline

MAX_POINTS = 4_000
MAX_MARKERS = 3_000
MAX_BINS = 300
MAX_TRADES = 500
GREEN, RED, BLUE, GREY = "#16a34a", "#dc2626", "#2563eb", "#94a3b8"


def html_report(result: BacktestResult) -> str:
    """The page. Raises Refused where plotly is not installed."""
    main = result.world.priced[0][0]
    return PAGE.format(
        title=html.escape(f"{result.flow_id} · backtest"),
        subtitle=html.escape(_subtitle(result)),
        cards="".join(_cards(result)),
        warnings="".join(f"<li>{html.escape(text)}</li>" for text in result.warnings),
        warnings_hidden="" if result.warnings else "hidden",
        trades=_trade_table(result),
        nodes=_node_table(result.timeline),
        digest=result.sha256(),
        symbol=html.escape(main.symbol),
        figures=embedded({"price": _price(result), "equity": _equity(result), "nodes": _nodes(result.timeline)}),
        plotly=plotly_js(),
    )


def plotly_js() -> str:
    """The charting library itself. Raises Refused where it is not installed."""
    spec = find_spec("plotly")
    places = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    for place in places:
        if (found := place / "package_data" / "plotly.min.js").is_file():
            return found.read_text(encoding="utf-8")
    raise Refused("plotly_unavailable", "the HTML report needs the package plotly (pip install plotly)")


def embedded(figures: Mapping[str, Any]) -> str:
    """JSON inside a script element: what could end the element, or begin a comment in it, is escaped."""
    return orjson.dumps(figures, option=orjson.OPT_SERIALIZE_NUMPY).decode().replace("<", "\\u003c")


def _subtitle(result: BacktestResult) -> str:
    market, cursor = result.world.priced[0]
    times = result.timeline.times
    span = f"{told(int(times[0]))[:16]} to {told(int(times[-1]))[:16]}".replace("T", " ") + " UTC"
    return f"{market.symbol} · {span} · {len(cursor.candles):,} candles · {len(times):,} cycles · {_fill_words(result)}"


def _fill_words(result: BacktestResult) -> str:
    model = result.world.model
    when = "fills at the next open" if model.price == "next_open" else "fills at the close"
    return f"{when}, fee {model.fee_bps / 100:g} %, slippage {model.slippage_bps / 100:g} %"


def _cards(result: BacktestResult) -> Iterable[str]:
    f = result.figures
    yield card("Return", percent(f.return_), f"buy and hold {percent(f.buy_and_hold_return)}", f.return_)
    yield card("Final equity", number(f.final_equity), f"from {number(f.initial_equity)}")
    yield card("Growth a year", percent(f.cagr), "CAGR")
    yield card("Sharpe", ratio(f.sharpe), f"Sortino {ratio(f.sortino)}")
    yield card("Max drawdown", percent(-f.max_drawdown), f"longest {duration(f.max_drawdown_length_s)}", -1)
    yield card("Volatility", percent(f.volatility), "a year")
    yield card("Trades", f"{f.trades:,}", f"{f.closed_trades:,} closed")
    yield card("Win rate", percent(f.win_rate), f"profit factor {ratio(f.profit_factor)}")
    yield card("Exposure", percent(f.exposure), f"turnover {f.turnover:,.1f} times")
    yield card("Costs", number(f.fees), f"fees, and gas {number(f.gas)}")


def _price(result: BacktestResult) -> dict[str, Any]:
    curve = result.curve
    kept = thinned(len(curve.times), MAX_POINTS)
    line = _line("price", _moments(curve.times[kept]), curve.price[kept], GREY, width=1.2)
    bought, sold = _sides(result.trades)
    return {
        "data": [line, _markers("buy", bought, "triangle-up", GREEN), _markers("sell", sold, "triangle-down", RED)],
        "layout": {"yaxis": {"title": {"text": "price"}}},
    }


def _sides(trades: Sequence[TradeRecord]) -> tuple[list[TradeRecord], list[TradeRecord]]:
    shown = trades[:MAX_MARKERS]
    return [t for t in shown if not t.hops[-1].sells_base], [t for t in shown if t.hops[-1].sells_base]


def _markers(name: str, trades: Sequence[TradeRecord], shape: str, colour: str) -> dict[str, Any]:
    return {
        "type": "scattergl",
        "mode": "markers",
        "name": name,
        "x": [told(trade.filled_ms) for trade in trades],
        "y": [float(trade.hops[-1].bar.price) for trade in trades],
        "text": [html.escape(f"{trade.node_id} · {_amounts(trade)}") for trade in trades],
        "hovertemplate": "%{text}<br>%{x}<br>at %{y}<extra></extra>",
        "marker": {"symbol": shape, "size": 9, "color": colour, "line": {"width": 0.5, "color": "white"}},
    }


def _equity(result: BacktestResult) -> dict[str, Any]:
    curve = result.curve
    kept = thinned(len(curve.times), MAX_POINTS)
    moments = _moments(curve.times[kept])
    held = curve.equity[0] * curve.price / curve.price[0]
    fall = _line("drawdown", moments, metrics.drawdowns(curve.equity)[kept], RED, width=1)
    return {
        "data": [
            _line("this flow", moments, curve.equity[kept], BLUE, width=1.8),
            _line("buy and hold", moments, held[kept], GREY, width=1.2),
            {**fall, "fill": "tozeroy", "fillcolor": "rgba(220,38,38,.15)", "yaxis": "y2", "showlegend": False},
        ],
        "layout": {
            "yaxis": {"title": {"text": "equity"}, "domain": [0.36, 1]},
            "xaxis": {"anchor": "y2", "type": "date"},
            "yaxis2": {"title": {"text": "drawdown"}, "domain": [0, 0.28], "tickformat": ".0%", "rangemode": "tozero"},
        },
    }


def _line(name: str, moments: Any, values: Any, colour: str, *, width: float) -> dict[str, Any]:
    line = {"color": colour, "width": width}
    return {"type": "scattergl", "mode": "lines", "name": name, "x": moments, "y": values, "line": line}


def _nodes(timeline: Timeline) -> dict[str, Any]:
    """How often each node ended each way, as shares of the cycles of a bin."""
    shares: list[Floats] = []
    labels: list[str] = []
    edges = np.unique(np.linspace(0, len(timeline.times), min(len(timeline.times), MAX_BINS) + 1).round().astype(int))
    sizes = np.diff(edges)
    for node, row in zip(timeline.nodes, timeline.codes, strict=True):
        for code in np.unique(row).tolist():
            decision = timeline.decisions[code]
            if decision.status in (None, "skipped"):
                continue
            handles = f" → {', '.join(decision.handles)}" if decision.handles else ""
            words = " without output" if not decision.handles else ""
            words = words if decision.status == "completed" else f" {decision.status}"
            labels.append(html.escape(f"{node}{words}{handles}"))
            shares.append(np.add.reduceat((row == code).astype(np.float64), edges[:-1]) / sizes)
    heat = {
        "type": "heatmap",
        "x": _moments(timeline.times[edges[:-1]]),
        "y": labels[::-1],
        # What happened once in a bin is to be seen as well.
        "z": [np.where(share > 0, 0.3 + 0.7 * share, 0) for share in shares[::-1]],
        "customdata": shares[::-1],
        "zmin": 0,
        "zmax": 1,
        "colorscale": [[0, "rgba(148,163,184,.10)"], [1, BLUE]],
        "showscale": False,
        "hovertemplate": "%{y}<br>%{x}<br>in %{customdata:.1%} of the cycles<extra></extra>",
    }
    return {
        "data": [heat],
        "layout": {"height": 120 + 26 * len(labels), "yaxis": {"automargin": True}, "hovermode": "closest"},
    }


def _moments(times: Any) -> list[str]:
    return [told(time) for time in times.tolist()]


def _trade_table(result: BacktestResult) -> str:
    head = ("filled (UTC)", "cycle", "node", "trade", "price", "because of")
    rows = [
        (
            told(trade.filled_ms)[:19].replace("T", " "),
            f"{trade.cycle:,}",
            trade.node_id,
            _amounts(trade),
            f"{trade.hops[-1].bar.price:,}",
            _reason(trade),
        )
        for trade in result.trades[:MAX_TRADES]
    ]
    left_out = len(result.trades) - len(rows)
    note = f"<p class=note>{left_out:,} more are in trades.csv</p>" if left_out > 0 else ""
    return table(head, rows) + note


def _amounts(trade: TradeRecord) -> str:
    first, last = trade.hops[0], trade.hops[-1]
    sold = first.market.base if first.sells_base else first.market.quote
    bought = last.market.quote if last.sells_base else last.market.base
    words = "sell" if last.sells_base else "buy"
    sold_amount, bought_amount = to_human(first.amount_in, sold.decimals), to_human(last.amount_out, bought.decimals)
    return f"{words} {last.market.symbol}: {float(sold_amount):.6g} → {float(bought_amount):.6g}"


def _reason(trade: TradeRecord) -> str:
    signals = (f"{s.source_node}.{s.source_handle}: {_short(s.value)}" for s in trade.reason)
    return "; ".join(signals) or "no signal: it starts the flow"


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_short(held)}" for name, held in value.items())[:200]
    return orjson.dumps(value).decode()[:200]


def _node_table(timeline: Timeline) -> str:
    counted = timeline.counts()
    statuses = sorted({status for counts in counted.values() for status in counts})
    rows = [(node, *(f"{counts.get(status, 0):,}" for status in statuses)) for node, counts in counted.items()]
    return table(("node", *statuses), rows)


def percent(value: float | None) -> str:
    return "n/a" if value is None else f"{value * 100:,.2f} %"


def ratio(value: float | None) -> str:
    return "n/a" if value is None else f"{value:,.2f}"


def number(value: float) -> str:
    return f"{value:,.2f}" if abs(value) >= 1 or value == 0 else f"{value:.4g}"


def duration(seconds: int) -> str:
    """In the largest unit that says enough."""
    units = (("d", 86_400), ("h", 3_600), ("min", 60))
    return next((f"{seconds / size:,.1f} {unit}" for unit, size in units if seconds >= size), f"{seconds} s")
