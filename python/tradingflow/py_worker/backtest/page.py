"""The frame of an HTML report, and its small parts. Everything that is not ours comes in escaped."""

from __future__ import annotations

import html
from collections.abc import Sequence

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ --ground:#f8fafc; --sheet:#fff; --text:#0f172a; --soft:#64748b; --rule:#e2e8f0;
  --good:#15803d; --bad:#b91c1c }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ground:#0b1120; --sheet:#131c2e; --text:#e2e8f0; --soft:#94a3b8; --rule:#24324a;
    --good:#4ade80; --bad:#f87171 }}
}}
* {{ box-sizing:border-box }}
body {{ margin:0; background:var(--ground); color:var(--text);
  font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif }}
main {{ max-width:1180px; margin:0 auto; padding:32px 20px 60px }}
h1 {{ font-size:26px; margin:0 }} h2 {{ font-size:17px; margin:34px 0 10px }}
.note {{ color:var(--soft); margin:4px 0 0 }}
.cards {{ display:grid; grid-template-columns:repeat(auto-fit,minmax(185px,1fr)); gap:12px; margin-top:24px }}
.card, .sheet {{ background:var(--sheet); border:1px solid var(--rule); border-radius:12px }}
.card {{ padding:14px 16px }} .card b {{ display:block; font-size:23px; font-variant-numeric:tabular-nums }}
.card span {{ color:var(--soft); font-size:13px }} .good {{ color:var(--good) }} .bad {{ color:var(--bad) }}
.sheet {{ padding:8px; overflow:auto }} .scroll {{ max-height:520px }}
.warnings {{ border-left:4px solid #f59e0b; padding:10px 14px 10px 32px; margin-top:20px }}
table {{ border-collapse:collapse; width:100%; font-size:13px; font-variant-numeric:tabular-nums }}
th, td {{ text-align:left; padding:6px 10px; border-bottom:1px solid var(--rule); white-space:nowrap }}
th {{ position:sticky; top:0; background:var(--sheet); color:var(--soft); font-weight:600 }}
td:last-child {{ white-space:normal; min-width:240px; overflow-wrap:anywhere }}
footer {{ margin-top:40px; color:var(--soft); font-size:12px; overflow-wrap:anywhere }}
</style></head><body><main>
<h1>{title}</h1><p class="note">{subtitle}</p>
<section class="cards">{cards}</section>
<ul class="sheet warnings" {warnings_hidden}>{warnings}</ul>
<h2>{symbol} with the flow's trades</h2><div class="sheet"><div id="price"></div></div>
<h2>Equity and drawdown</h2><div class="sheet"><div id="equity"></div></div>
<h2>What the nodes did</h2><div class="sheet"><div id="nodes"></div></div>
<h2>Nodes by status, in cycles</h2><div class="sheet">{nodes}</div>
<h2>Trades</h2><div class="sheet scroll">{trades}</div>
<footer>SHA-256 of the result: {digest}. Past results do not foretell future ones. Charts: plotly.js (MIT).</footer>
</main>
<script>{plotly}</script>
<script id="figures" type="application/json">{figures}</script>
<script>
const figures = JSON.parse(document.getElementById("figures").textContent);
const style = getComputedStyle(document.documentElement);
const ink = style.getPropertyValue("--text").trim(), rule = style.getPropertyValue("--rule").trim();
const axis = {{gridcolor: rule, linecolor: rule, zerolinecolor: rule}};
const base = {{
  height: 440, margin: {{l: 66, r: 18, t: 14, b: 40}}, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
  font: {{color: ink, size: 12}}, hovermode: "x unified", legend: {{orientation: "h", y: 1.08}},
  modebar: {{bgcolor: "rgba(0,0,0,0)", color: rule, activecolor: ink}},
}};
const charts = Object.entries(figures).map(([name, figure]) => {{
  const layout = {{...base, xaxis: {{type: "date"}}, ...figure.layout}};
  for (const key of Object.keys(layout)) if (/^[xy]axis/.test(key)) layout[key] = {{...axis, ...layout[key]}};
  const place = document.getElementById(name);
  Plotly.newPlot(place, figure.data, layout, {{responsive: true, displaylogo: false}});
  return place;
}});
let following = false;
for (const chart of charts) chart.on("plotly_relayout", change => {{
  if (following || !("xaxis.range[0]" in change || "xaxis.autorange" in change)) return;
  following = true;
  const range = "xaxis.autorange" in change ? {{"xaxis.autorange": true}}
    : {{"xaxis.range": [change["xaxis.range[0]"], change["xaxis.range[1]"]]}};
  Promise.all(charts.filter(other => other !== chart).map(other => Plotly.relayout(other, range)))
    .then(() => {{ following = false; }});
}});
</script></body></html>
"""


_STYLE = PAGE[PAGE.index("<style>") : PAGE.index("</style>")]
SWEEP_PAGE = (
    """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Parameter sweep</title>
"""
    + _STYLE
    + """</style></head><body><main>
<h1>Parameter sweep</h1><ul class="sheet warnings"><li>{verdict}</li></ul>
<h2>Sharpe ratio</h2><div class="sheet"><div id="chart"></div></div>
<h2>Runs, best first</h2><div class="sheet scroll">{trials}</div>
</main>
<script>{plotly}</script>
<script id="figures" type="application/json">{figures}</script>
<script>
const figure = JSON.parse(document.getElementById("figures").textContent);
const ink = getComputedStyle(document.documentElement).getPropertyValue("--text").trim();
Plotly.newPlot("chart", figure.data, {{
  height: 520, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: {{color: ink}},
  xaxis: {{title: {{text: figure.x}}}}, yaxis: {{title: {{text: figure.y}}, automargin: true}}, margin: {{t: 20}},
}}, {{responsive: true, displaylogo: false}});
</script></body></html>
"""
)


def card(title: str, value: str, below: str, sign: float = 0) -> str:
    """One figure; `sign` colours it."""
    tone = "good" if sign > 0 else "bad" if sign < 0 else ""
    title, value, below = html.escape(title), html.escape(value), html.escape(below)
    return f'<div class="card"><span>{title}</span><b class="{tone}">{value}</b><span>{below}</span></div>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table of texts."""
    titles = "".join(f"<th>{html.escape(title)}</th>" for title in head)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"
