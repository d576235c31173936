"""How the page looks: gradio's plain theme with the machine's own fonts, and what the drawings need."""

COLORS = {
    "body_text_color_subdued": "#4b5563",
    "body_text_color_subdued_dark": "#c3c8d0",
    "block_label_text_color": "#4b5563",
    "block_label_text_color_dark": "#c3c8d0",
    "block_title_text_color": "#374151",
    "block_title_text_color_dark": "#e5e7eb",
    "button_primary_background_fill": "#005a9c",
    "button_primary_background_fill_hover": "#00487d",
    "button_primary_background_fill_dark": "#1d6fb8",
    "button_primary_background_fill_hover_dark": "#2b80cc",
    "slider_color": "#0072b2",
    "slider_color_dark": "#56b4e9",
}
"""For gradio's theme. Text has at least 4.5 times the contrast of its ground; blue and orange are of Okabe and Ito's
palette, which color-blind people tell apart."""

STYLE = """
.gradio-container { max-width: 1180px !important; margin: 0 auto !important; }
.ai-head h1 { font-size: 1.7rem; margin: .2rem 0; letter-spacing: -.01em; }
.ai-head p { margin: .2rem 0; max-width: 62ch; line-height: 1.5; }
.ai-row { display: flex; flex-wrap: wrap; gap: 14px; align-items: flex-start; }
.ai-figure { margin: 0; flex: 1 1 110px; min-width: 104px; max-width: 300px; }
.ai-figure figcaption { display: flex; flex-direction: column; line-height: 1.35; margin-top: .35rem; }
.ai-note { color: var(--body-text-color-subdued); font-size: .9em; }
.ai-face { width: 100%; aspect-ratio: 1; border-radius: 10px; display: block; margin: 0 !important; }
.ai-empty { aspect-ratio: 1; border: 2px dashed var(--border-color-primary); border-radius: 10px; display: grid;
  place-items: center; text-align: center; padding: 1rem; color: var(--body-text-color-subdued); line-height: 1.4; }
.ai-svg { width: 100%; height: auto; display: block; }
.ai-svg text { fill: var(--body-text-color-subdued); font-size: 15px; font-family: inherit; }
.ai-grid { stroke: var(--border-color-primary); stroke-width: 1; }
.ai-curve { fill: none; stroke: #0072b2; stroke-width: 3.5; stroke-linejoin: round; }
.ai-dot { fill: #0072b2; stroke: var(--background-fill-primary); stroke-width: 2; }
.ai-mark { stroke: #b45309; stroke-width: 2.5; }
.ai-track { stroke: var(--border-color-primary); stroke-width: 6; stroke-linecap: round; }
.ai-fill { stroke: #0072b2; stroke-width: 6; stroke-linecap: round; }
.dark .ai-curve, .dark .ai-fill { stroke: #56b4e9; }
.dark .ai-dot { fill: #56b4e9; }
.dark .ai-mark { stroke: #e69f00; }
.ai-say { margin: .3rem 0 !important; line-height: 1.5; }
.ai-say.warning { border-left: 4px solid #d55e00; padding-left: .7rem; }
.ai-card { border: 1px solid var(--border-color-primary); border-radius: 10px; padding: .8rem 1rem; margin: 0 0 .8rem; }
.ai-card h3 { margin: 0 0 .3rem; font-size: 1.05rem; }
.ai-card ul { list-style: none; padding: 0; margin: .3rem 0 0; line-height: 1.6; }
.ai-card dl { display: grid; grid-template-columns: minmax(6.5rem, max-content) 1fr; gap: .25rem 1rem; margin: 0; }
.ai-card dt { color: var(--body-text-color-subdued); }
.ai-card dd { margin: 0; overflow-wrap: anywhere; }
.ai-yes { color: #0072b2; font-weight: bold; }
.ai-no { color: #b45309; font-weight: bold; }
.dark .ai-yes { color: #56b4e9; }
.dark .ai-no { color: #e69f00; }
.ai-bar { height: 8px; border-radius: 4px; background: var(--border-color-primary); overflow: hidden; margin: .5rem 0; }
.ai-bar div { height: 100%; background: #0072b2; }
.ai-report { width: 100%; height: min(80vh, 900px); border: 1px solid var(--border-color-primary); border-radius: 10px;
  background: Canvas; }
:focus-visible { outline: 3px solid #0072b2 !important; outline-offset: 2px; }
.dark :focus-visible { outline-color: #56b4e9 !important; }
footer, #files button[aria-label^="Remove"], #files .label-clear-button { display: none !important; }
@media (prefers-reduced-motion: reduce) { * { animation: none !important; transition: none !important; } }
@media (max-width: 640px) {
  .tab-container button { padding: 0 9px !important; }
  .ai-svg text { font-size: 23px; }
  .ai-row { gap: 10px; }
  .ai-head h1 { font-size: 1.35rem; }
}
"""
