"""The style of pages that are read without a network: light and dark, wide and narrow, on screen and on paper."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

STYLE = """
:root{color-scheme:light dark;--paper:#fbfbf9;--card:#fff;--ink:#1c1f23;--soft:#667079;--rule:#e4e6e3;
--blue:#2563a8;--red:#c2452d;--fill:#dde8f3}
@media(prefers-color-scheme:dark){:root{--paper:#15181b;--card:#1c2024;--ink:#e8eaea;--soft:#98a2aa;--rule:#2d3339;
--blue:#6aa9e9;--red:#ef7d64;--fill:#24384d}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
header,main{max-width:1080px;margin:0 auto;padding:0 24px}
header{padding-top:40px}
h1{font-size:34px;letter-spacing:-.02em;margin:0}
header p{color:var(--soft);margin:4px 0 18px;font-size:17px}
nav{display:flex;flex-wrap:wrap;gap:6px 18px;border-bottom:1px solid var(--rule);padding-bottom:12px}
nav a{color:var(--blue);text-decoration:none}
nav a:hover{text-decoration:underline}
section{margin:36px 0}
h2{font-size:21px;letter-spacing:-.01em;margin:0 0 14px}
h3{font-size:15px;margin:22px 0 8px}
small,.note,figcaption,.none{color:var(--soft);font-size:13px}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(180px,1fr));gap:12px}
.card,figure{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:14px 16px;margin:0}
.card b{font-size:26px;letter-spacing:-.02em;font-variant-numeric:tabular-nums;display:block;line-height:1.2}
.card span{display:block}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(310px,1fr));gap:14px;align-items:start}
.half{max-width:560px}
svg{display:block;width:100%;height:auto}
svg.interval{width:120px;height:10px;margin:3px 0;overflow:visible}
.grid{stroke:var(--rule)}.line{fill:none;stroke:var(--blue);stroke-width:2;stroke-linejoin:round}
.dot{fill:var(--blue)}.span{stroke:var(--blue);stroke-width:3;opacity:.45;stroke-linecap:round}
.gap{stroke:var(--red);stroke-width:2;opacity:.55}.diagonal{stroke:var(--soft);stroke-dasharray:4 4}
.empty{fill:var(--rule);opacity:.45}.right{fill:var(--blue)}.wrong{fill:var(--red)}
text{font:11px system-ui,sans-serif;fill:var(--ink);font-variant-numeric:tabular-nums}
text.tick,text.label{fill:var(--soft)}text.end{text-anchor:end}text.middle,text.count{text-anchor:middle}
text.strong{fill:var(--card);font-weight:600}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:6px 12px 6px 0;border-bottom:1px solid var(--rule);vertical-align:middle;font-weight:400}
thead th,tfoot th,tfoot td{color:var(--soft);font-size:13px}
.n{text-align:right;position:relative}
td.n i{position:absolute;right:12px;bottom:3px;height:3px;background:var(--fill);border-radius:2px}
div.figure{display:flex;align-items:center;gap:10px;flex-wrap:wrap}
div.figure b{font-weight:500}div.figure svg{width:90px}
details{margin:14px 0}summary{cursor:pointer;color:var(--blue)}
.strip{display:flex;flex-wrap:wrap;align-items:center;gap:6px;padding:4px 0;border-bottom:1px solid var(--rule)}
.strip span{width:150px;overflow:hidden;text-overflow:ellipsis}
img{image-rendering:auto;border-radius:4px;background:var(--fill)}
.strip img{height:52px;min-width:52px;object-fit:cover}
.mistakes{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:12px}
.mistake{padding:10px}.mistake img{width:100%;height:130px;object-fit:contain}
.mistake small{display:block;overflow-wrap:anywhere}
dl{display:grid;grid-template-columns:minmax(120px,220px) 1fr;gap:4px 16px;margin:0}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
@media print{nav{display:none}section{break-inside:avoid}}
"""


def page(title: str, said: str, sections: Sequence[tuple[str, str]]) -> str:
    """One HTML file without scripts or anything from elsewhere; of the `sections`, names and bodies, those with a body
    are shown. Title, names and what is `said` are texts, bodies are HTML."""
    body = "".join(f"<section><h2>{escape(name)}</h2>{content}</section>" for name, content in sections if content)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        'img-src data:">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><header><h1>{escape(title)}</h1><p>{escape(said)}</p></header><main>{body}</main></body></html>\n"
    )


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of texts; empty for no rows."""
    if not rows:
        return ""
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def figures(drawn: Sequence[tuple[str, str]]) -> str:
    """Charts side by side, each a caption and its SVG."""
    each = "".join(f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>" for caption, svg in drawn)
    return f"<div class='charts'>{each}</div>" if each else ""
