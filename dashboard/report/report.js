'use strict';
// Draws one figure after the other; follows light and dark; before printing everything is drawn, on white, as wide as the paper.
const PAPER = 680;                                        // pixels between the margins of an A4 page
const night = matchMedia('(prefers-color-scheme: dark)');
const boxes = [...document.querySelectorAll('.plot')];
const ink = dark => dark ? '#e6eef0' : '#1b2a30';
const figureOf = box => JSON.parse(box.querySelector('script').textContent);

function draw(box, dark = night.matches, width) {
  const { data, layout } = figureOf(box), place = box.querySelector('.place');
  for (const trace of data) if (dark && trace.meta?.dark) trace.colorscale = trace.meta.dark;
  layout.font = { ...layout.font, color: ink(dark) };
  Object.assign(layout, width ? { width, autosize: false } : { autosize: true });
  delete layout.meta;
  Plotly.react(place, data, layout, { responsive: !width, displaylogo: false, staticPlot: false,
    modeBarButtonsToRemove: ['toImage', 'select2d', 'lasso2d'] });
  box.dataset.drawn = width || place.clientWidth; }

function save(box, format) {                              // on white with dark text, its title above
  const { data, layout } = figureOf(box), height = (layout.height || 340) + 34, margin = layout.margin || {};
  Object.assign(layout, { paper_bgcolor: '#ffffff', plot_bgcolor: '#ffffff', height,
    title: { text: box.dataset.title, x: 0.01, xanchor: 'left', y: 1, yanchor: 'top', pad: { t: 12 }, font: { size: 16 } },
    margin: { ...margin, t: (margin.t ?? 28) + 34 }, font: { ...layout.font, color: ink(false) } });
  Plotly.downloadImage({ data, layout, config: {} },
    { format, filename: box.dataset.file, width: Math.max(box.clientWidth, 600), height, scale: format === 'png' ? 2 : 1 }); }

for (const box of boxes)
  for (const format of ['svg', 'png']) {
    const button = document.createElement('button');
    button.type = 'button'; button.textContent = format.toUpperCase();
    button.setAttribute('aria-label', `Save ${box.dataset.title} as ${format.toUpperCase()}`);
    button.onclick = () => save(box, format);
    box.parentElement.querySelector('.save').append(button); }

let next = 0;
oneStop(document);
function going() {
  quiet(document);
  if (next >= boxes.length) { document.documentElement.dataset.drawn = boxes.length; return; }
  draw(boxes[next++]);
  setTimeout(going); }
going();

night.addEventListener('change', () => boxes.slice(0, next).forEach(box => draw(box)));
let opened = [];
addEventListener('beforeprint', () => {
  next = boxes.length;
  opened = [...document.querySelectorAll('details[data-print]:not([open])')];
  opened.forEach(part => part.open = true);
  boxes.forEach(box => draw(box, false, PAPER)); });
addEventListener('afterprint', () => {
  opened.forEach(part => part.open = false);
  boxes.forEach(box => draw(box)); });
