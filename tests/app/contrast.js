// Text whose contrast to its background is below that of WCAG 2.2, 1.4.3 (AA): 4.5, or 3 for large text.
() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = ([r, g, b, a], below) => [r, g, b].map((value, i) => value * a + below[i] * (1 - a));
  const backdrop = (element) => {
    if (element === null) return matchMedia("(prefers-color-scheme: dark)").matches ? [0, 0, 0] : [255, 255, 255];
    const color = rgba(getComputedStyle(element).backgroundColor);
    return color[3] === 1 ? color.slice(0, 3) : over(color, backdrop(element.parentElement));
  };
  const luminance = (color) => {
    const [r, g, b] = color.map((value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = new Set();
  const check = (element, text, style, color) => {
    const below = backdrop(element);
    let opacity = 1;
    for (let one = element; one; one = one.parentElement) opacity *= Number(getComputedStyle(one).opacity);
    const [r, g, b, a] = rgba(color);
    const pair = [luminance(over([r, g, b, a * opacity], below)), luminance(below)].sort((x, y) => y - x);
    const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
    const size = parseFloat(style.fontSize);
    const least = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700) ? 3 : 4.5;
    if (ratio < least) found.add(`contrast ${ratio.toFixed(2)} of ${JSON.stringify(text.slice(0, 40))}, ${color} on ${below.map(Math.round)}`);
  };
  const shown = (element) => element.checkVisibility({ visibilityProperty: true, opacityProperty: true }) && element.getClientRects().length > 0 && element.getBoundingClientRect().width > 1;
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode.textContent.trim(), element = texts.currentNode.parentElement;
    if (!text || !shown(element) || element.closest("[disabled], [aria-hidden=true], script, style")) continue;
    const style = getComputedStyle(element);
    check(element, text, style, element.closest("svg") ? style.fill : style.color);
  }
  for (const field of document.querySelectorAll("input, textarea")) {
    if (!shown(field) || field.disabled || !["text", "number", "textarea"].includes(field.type)) continue;
    if (field.value) check(field, field.value, getComputedStyle(field), getComputedStyle(field).color);
    else if (field.placeholder) check(field, field.placeholder, getComputedStyle(field), getComputedStyle(field, "::placeholder").color);
  }
  return [...found];
}
