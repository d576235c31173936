"""The style sheet: system fonts, two color schemes, cards on narrow screens, ink-saving print.

Colors of series are those of Okabe and Ito (2008), darkened or lightened until they stand 4.5:1 or more
against the background; neighboring series differ in shape too.
"""

_LIGHT = """--paper:#fff;--panel:#f4f6f8;--ink:#16191d;--soft:#535c66;--line:#d3d9df;--grid:#e3e7ec;
--accent:#00629b;--band:#9cc9e6;--quiet:#626b75;--quiet-band:#cbd1d7;--alarm:#a83c00;
--strong:#a83c00;--middle:#8a5a00;--doubt:#8a3a74;--plain:#44607a;
--s0:#0072b2;--s1:#c04f00;--s2:#005c45;--s3:#a8558a;--s4:#946400;--s5:#3f4750;"""
_DARK = """--paper:#14171a;--panel:#1e2328;--ink:#e9ecef;--soft:#a9b2bc;--line:#3a424a;--grid:#2b3238;
--accent:#6cbcf0;--band:#28567a;--quiet:#a9b2bc;--quiet-band:#434c55;--alarm:#ffa46b;
--strong:#ff9a5c;--middle:#f0b840;--doubt:#e5a3cc;--plain:#9dbbd6;
--s0:#45a6e0;--s1:#ff8f4a;--s2:#86e6c6;--s3:#e39cc5;--s4:#e6b13a;--s5:#f4f6f8;"""

_BASE = """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);font:1rem/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,"DejaVu Sans",sans-serif;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
main,footer{max-width:62rem;margin:0 auto;padding:2rem clamp(1rem,4vw,2.5rem) 0}
footer{padding-bottom:3rem;color:var(--soft);font-size:.875rem}
h1,h2,h3{line-height:1.2;text-wrap:balance}
h1{font-size:clamp(1.5rem,5vw,2.25rem);margin:0 0 1.25rem}
h2{font-size:1.375rem;margin:3rem 0 .75rem;padding-top:1rem;border-top:1px solid var(--line)}
h3{font-size:1.125rem;margin:1.75rem 0 .5rem}
p{margin:0 0 .75rem;max-width:46rem;text-wrap:pretty}
ul{margin:0 0 1rem;padding-left:1.25rem;max-width:46rem}
li{margin:.25rem 0}
code{font-family:ui-monospace,"SFMono-Regular",Menlo,Consolas,"DejaVu Sans Mono",monospace;
font-size:.875em;color:var(--soft)}
a{color:var(--accent);text-underline-offset:.15em}
.kicker{margin:0 0 .25rem;color:var(--soft)}.lead{color:var(--soft);margin:-.75rem 0 1.25rem}
.ways{margin:1rem 0 0}
.sub{display:block;color:var(--soft);font-size:.8125rem;line-height:1.4;font-weight:400}
.alarm{color:var(--alarm)}
.unseen{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
"""

_VERDICT = """
.verdict{--tone:var(--plain);background:var(--panel);border-left:.5rem solid var(--tone);border-radius:.25rem;
padding:1.25rem 1.5rem .75rem}
.verdict.strong{--tone:var(--strong)}.verdict.middle{--tone:var(--middle)}.verdict.doubt{--tone:var(--doubt)}
.verdict .word{font-size:clamp(1.375rem,4.5vw,1.875rem);font-weight:700;line-height:1.2;
color:var(--tone);margin-bottom:.5rem}
.word::first-letter{text-transform:uppercase}
.tiles{list-style:none;margin:1.25rem 0 0;padding:0;max-width:none;display:grid;gap:1rem;
grid-template-columns:repeat(auto-fit,minmax(min(100%,15rem),1fr))}
.tiles li{margin:0;padding:1rem 1.25rem;border:1px solid var(--line);border-radius:.25rem;
display:flex;flex-direction:column}
.tiles p{margin:0 0 .5rem;font-size:.9375rem;line-height:1.4}
.tiles .big{font-size:2.25rem;font-weight:700;line-height:1.1}
.tiles .strip{margin-top:auto}.tiles .sub{margin:.375rem 0 0;font-size:.8125rem}
"""

_CHARTS = """
svg{display:block;overflow:visible}
svg text{fill:var(--soft);font-size:.75rem;font-family:inherit}
.strip{width:calc(100% - 1rem);margin:0 .5rem}.rates .strip{width:calc(100% - 2.5rem);margin:0 1.25rem}
.grid{stroke:var(--grid)}
.chance{stroke:var(--alarm);stroke-width:1.5;stroke-dasharray:3 2.5}
.band{fill:var(--band)}
.mark{--c:var(--accent);fill:var(--c);stroke:var(--c);stroke-width:2;overflow:visible}
.control .band{fill:var(--quiet-band)}.control .mark{--c:var(--quiet)}
.mark.hollow{fill:var(--paper)}
.plot-figure{margin:1.5rem 0 .5rem;max-width:44rem;break-inside:avoid}
.frame{margin:1rem 1rem 1.75rem 3rem}
.scatter .label{fill:var(--c);font-weight:600;paint-order:stroke;stroke:var(--paper);stroke-width:4px;
stroke-linejoin:round}
.join{stroke:var(--c);stroke-width:1.75;opacity:.7}.reach{stroke:var(--c);stroke-width:5;opacity:.22}
.series0{--c:var(--s0)}.series1{--c:var(--s1)}.series2{--c:var(--s2)}
.series3{--c:var(--s3)}.series4{--c:var(--s4)}.series5{--c:var(--s5)}
.mark.series0{--c:var(--s0)}.mark.series1{--c:var(--s1)}.mark.series2{--c:var(--s2)}
.mark.series3{--c:var(--s3)}.mark.series4{--c:var(--s4)}.mark.series5{--c:var(--s5)}
.axis-name{margin:0;font-size:.8125rem;color:var(--soft)}.axis-name.across{text-align:right}
.key{list-style:none;display:flex;flex-wrap:wrap;gap:.25rem 1.25rem;padding:0;font-size:.875rem}
.key li{display:flex;align-items:center;gap:.625rem}.key svg{margin:0 .25rem}
"""

_TABLES = """
table{width:100%;border-collapse:collapse;margin:1rem 0 1.5rem;font-size:.9375rem;line-height:1.4}
caption{text-align:left;font-weight:600;padding-bottom:.375rem}
th,td{text-align:left;vertical-align:top;padding:.5rem .75rem .5rem 0;border-bottom:1px solid var(--line)}
thead th{font-size:.8125rem;font-weight:600;color:var(--soft);vertical-align:bottom;border-bottom-color:var(--soft)}
tbody th{font-weight:500}
.rates th:first-child{width:34%}.rates .figure{width:25%;padding-right:0;padding-left:.75rem}
.rates .plot{padding-left:0;padding-right:0}.rates td{vertical-align:middle}.rates tbody .plot{padding:0}
.cards tbody th{width:26%}.cards tr>:nth-child(n+4){min-width:6rem}
.cards .value{display:block}.cards .short{white-space:nowrap}
thead th{overflow-wrap:normal}
.facts{margin:1rem 0}
.facts div{display:grid;grid-template-columns:15rem 1fr;gap:0 1.5rem;padding:.375rem 0;
border-bottom:1px solid var(--grid)}
.facts dt{color:var(--soft)}.facts dd{margin:0}
.findings{list-style:none;padding:0}.findings .said::first-letter{text-transform:uppercase}
.findings li{display:grid;grid-template-columns:7.5rem 1fr;gap:0 1rem;padding:.5rem 0;margin:0;
border-bottom:1px solid var(--grid)}

.problem .sign{color:var(--alarm)}.warning .sign{color:var(--middle)}.info .sign{color:var(--plain)}
.faces{list-style:none;padding:0;max-width:none;display:flex;flex-wrap:wrap;gap:1.25rem}
.faces div{display:flex;gap:.5rem;flex-wrap:wrap}.faces figure{margin:0}
.faces .name{margin:0 0 .25rem;font-size:.875rem}
.faces li{max-width:100%;break-inside:avoid}
.faces img{display:block;width:7rem;height:7rem;object-fit:cover;border-radius:.25rem;background:var(--panel)}
.faces figcaption{font-size:.75rem;color:var(--soft);max-width:7rem}
"""

_NARROW = """
@media screen and (max-width:42rem){
h2{margin-top:2.25rem}
.verdict{padding:1rem 1rem .5rem}
.facts div{grid-template-columns:1fr}
.findings li{grid-template-columns:1fr}
.rates,.rates tbody,.rates thead{display:block}
.rates tr{display:grid;grid-template-columns:minmax(0,1fr) auto;border-bottom:1px solid var(--line);padding:.5rem 0}
.rates th,.rates td{border:0;padding:0}
.rates th:first-child,.rates .figure{width:auto}.rates .figure{padding-left:.75rem;text-align:right;max-width:10rem}
.rates th,.rates td{overflow-wrap:break-word;min-width:0}
.rates .plot{grid-column:1/-1;grid-row:2}.rates thead .figure,.rates thead th:first-child{display:none}
.rates thead tr{padding:.25rem 0}.rates caption,.cards caption{display:block}
.cards,.cards tbody,.cards tr,.cards th,.cards td{display:block}
.cards thead{display:none}
.cards tr{border:1px solid var(--line);border-radius:.25rem;padding:.75rem 1rem;margin:.75rem 0}
.cards th,.cards td{border:0;padding:.25rem 0}
.cards tbody th{font-weight:600;width:auto}
.cards td{display:grid;grid-template-columns:45% 1fr;gap:.75rem}
.cards td:has(.bare){display:none}
.cards td::before{content:attr(data-label);color:var(--soft);font-size:.875rem}
}
"""

_PRINT = """
@media print{
@page{margin:16mm 14mm}
html{font-size:8.5pt}
main,footer{max-width:none;padding:0}
h2,h3,caption,thead{break-after:avoid}
caption{break-inside:avoid}
th,td{padding-top:.3rem;padding-bottom:.3rem}
h2{margin-top:1.75rem}
tr,li,.facts div,.verdict,.tiles{break-inside:avoid}
.rates{break-inside:avoid}
.tiles{grid-template-columns:repeat(3,1fr)}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}
}
"""

STYLE = "\n".join(
    [
        f":root{{color-scheme:light dark;{_LIGHT}}}",
        f"@media screen and (prefers-color-scheme:dark){{:root{{{_DARK}}}}}",
        _BASE,
        _VERDICT,
        _CHARTS,
        _TABLES,
        _NARROW,
        _PRINT,
    ]
)
"""All of it; nothing in it points outside the page."""
