const SIZE = 440, DRAWN = 2, SLACK = 1e-9;             // the square's side; axes are drawn to ± 2 root mean squares
const turn = degrees => [Math.cos(degrees * Math.PI / 180), Math.sin(degrees * Math.PI / 180)];
const dot = (a, b) => a[0] * b[0] + a[1] * b[1];
const degrees = v => ((Math.atan2(v[1], v[0]) * 180 / Math.PI) % 360 + 360) % 360;

// ---- geometry: as projection_picture in projection_plane.py, which names the sources

function axesOf(points) {                              // of the uncentred second moment, strongest first
  let a = 0, b = 0, c = 0;
  for (const [x, y] of points) { a += x * x; b += x * y; c += y * y; }
  [a, b, c] = [a, b, c].map(v => v / points.length);
  const half = Math.hypot((a - c) / 2, b), power = [(a + c) / 2 + half, Math.max(0, (a + c) / 2 - half)];
  let angle = Math.atan2(2 * b, a - c) * 90 / Math.PI;
  if (angle < 0) angle += 180;
  const [x, y] = turn(angle);
  return { angle, axes: [[x, y], [-y, x]], power, deviations: power.map(Math.sqrt) }; }

function picture(points, gradient, energy, alpha) {
  const { axes, power, deviations } = axesOf(points), shares = power.map(p => p / (power[0] + power[1]));
  const protectedAxes = [0, shares[0], shares[0] + shares[1]].filter(held => held < energy - SLACK).length;
  const strength = deviations.map((s, i) => i >= protectedAxes ? 0 : alpha == null ? 1 : (alpha + 1) * s / (alpha * s + deviations[0]));
  const along = axes.map((axis, i) => strength[i] * dot(gradient, axis));
  const removed = [0, 1].map(n => along[0] * axes[0][n] + along[1] * axes[1][n]), left = gradient.map((v, n) => v - removed[n]);
  const change = step => Math.hypot(...axes.map((axis, i) => deviations[i] * dot(step, axis)));
  return { axes, deviations, shares, protected: protectedAxes, strength, left, removed,
    left_share: Math.hypot(...left) / Math.hypot(...gradient), change: change(left), change_before: change(gradient) }; }

function shaped(points, angle, elongation) {           // the same points, turned and stretched at equal energy
  const own = axesOf(points), all = Math.sqrt(own.power[0] + own.power[1]), [x, y] = turn(angle);
  const flat = !(own.power[1] > 1e-12 * own.power[0]), whole = Math.hypot(1, elongation);
  const s = flat ? own.deviations : [all * elongation / whole, all / whole];
  return points.map(p => {
    const u = dot(p, own.axes[0]) / own.deviations[0] * s[0], v = flat ? 0 : dot(p, own.axes[1]) / own.deviations[1] * s[1];
    return [u * x - v * y, u * y + v * x]; }); }

// ---- words

const percent = (share, digits = 1) => (100 * share).toFixed(digits) + '\u00a0%';
const short = v => v > 1e-9 ? String(+v.toPrecision(2)) : '0';

function sentence(p, energy) {                         // as says in projection_plane.py
  const before = short(p.change_before);
  if (!p.protected) return `Nothing is protected: the whole gradient is left. Old outputs change by ${before}.`;
  let what = `One axis holds ${percent(p.shares[0])} of the energy and is protected`;
  if (p.protected === 2) {
    what = `The first axis holds ${percent(p.shares[0])} of the energy, less than the ${percent(energy, 0)} to keep`;
    if (p.left_share < 1e-6) return `${what}, so both are protected: the projected gradient is zero, and the new ` +
      `task cannot be learned here. Old outputs do not change (unprotected: by ${before}).`;
    what += `, so both are protected, the second by ${percent(p.strength[1])}`; }
  return `${what}: ${percent(p.left_share)} of the gradient’s length is left. Old outputs change by ${short(p.change)} instead of ${before}.`; }

// ---- the drawing

const part = (tag, name, parent, text) => { const node = document.createElement(tag);
  node.className = name; if (text) node.textContent = text; parent.append(node); return node; };
const mark = (tag, name, parent) => { const node = document.createElementNS('http://www.w3.org/2000/svg', tag);
  node.setAttribute('class', name); parent.append(node); return node; };
const set = (node, values) => { for (const name in values) node.setAttribute(name, values[name]); };
const at = v => v[0].toFixed(2) + ' ' + (-v[1]).toFixed(2);

function arrow(from, to, size) {                       // a shaft with a head; no head where there is hardly a shaft
  const d = [to[0] - from[0], to[1] - from[1]], long = Math.hypot(...d);
  if (long < 1) return '';
  const u = d.map(v => v / long), head = Math.min(size, long / 2);
  const wing = side => [0, 1].map(n => to[n] - head * u[n] + side * head * .5 * (n ? u[0] : -u[1]));
  return `M${at(from)}L${at(to)}M${at(wing(1))}L${at(to)}L${at(wing(-1))}`; }

function slider(box, name, label, low, high, step) {
  const row = part('label', 'plane-slider', box.__controls), head = part('span', 'plane-slider-head', row);
  part('span', '', head, label);
  const value = part('span', '', head), input = part('input', 'plane-' + name, row);
  Object.assign(input, { type: 'range', min: low, max: high, step });
  input.addEventListener('input', () => { box.__state[name] = +input.value; draw(box); });
  return { row, input, show: (number, said) => { input.value = number; value.textContent = said; input.setAttribute('aria-valuetext', said); } }; }

function gauge(box, label) {
  const row = part('div', 'plane-gauge', box.__controls), head = part('div', 'plane-slider-head', row);
  part('span', '', head, label);
  const value = part('b', '', head), fill = part('div', 'plane-fill', part('div', 'plane-track', row));
  return (share, said) => { fill.style.width = 100 * Math.min(share, 1) + '%'; value.textContent = said; }; }

function build(box, d) {                               // once per shape of the data
  const own = axesOf(d.points), start = degrees(d.gradient);
  box.replaceChildren();
  box.style.setProperty('--plane-old', d.colours[0]); box.style.setProperty('--plane-new', d.colours[1]);
  const body = part('div', 'plane-body', box), figure = part('div', 'plane-figure', body);
  const svg = mark('svg', 'plane-square', figure), half = SIZE / 2;
  set(svg, { viewBox: `${-half} ${-half} ${SIZE} ${SIZE}`, role: 'group', 'aria-label': 'Inputs of old tasks with their axes, and the gradient of the new task' });
  const frame = mark('rect', 'plane-frame', svg);
  set(frame, { x: -half + 1, y: -half + 1, width: SIZE - 2, height: SIZE - 2, rx: 8 });
  const nodes = box.__nodes = { circle: mark('circle', 'plane-circle', svg), cloud: mark('path', 'plane-cloud', svg),
    lines: [0, 1].map(() => mark('path', 'plane-line', svg)), axes: [0, 1].map(() => mark('path', 'plane-axis', svg)),
    gradient: mark('path', 'plane-gradient', svg), removed: mark('path', 'plane-removed', svg), left: mark('path', 'plane-left', svg),
    names: [0, 1].map(() => mark('text', 'plane-name', svg)) };
  set(mark('circle', 'plane-origin', svg), { r: 3.5 });
  const handle = nodes.handle = mark('g', 'plane-handle', svg);
  set(handle, { role: 'slider', tabindex: 0, 'aria-label': 'Direction of the new task’s gradient, in degrees', 'aria-valuemin': 0, 'aria-valuemax': 359 });
  nodes.grip = mark('path', 'plane-grip', handle); nodes.tip = mark('circle', 'plane-tip', handle); nodes.touch = mark('circle', 'plane-touch', handle);
  set(nodes.tip, { r: 8 }); set(nodes.touch, { r: 20 });
  const legend = part('ul', 'plane-legend', figure);
  for (const [name, text] of [['cloud', 'inputs of old tasks'], ['axis', 'their axes, ± 2 × root mean square'], ['line', 'protected'],
      ['gradient', 'gradient: drag it'], ['removed', 'removed'], ['left', 'left of it']]) {
    const row = part('li', '', legend), small = mark('svg', 'plane-sample', row);
    set(small, { viewBox: '0 0 26 10', 'aria-hidden': 'true' });
    set(mark('path', 'plane-' + name, small), { d: name === 'cloud' ? 'M4 6h0M12 3h0M20 7h0' : 'M1 5H25' });
    part('span', '', row, text); }
  box.__says = part('p', 'plane-says', body); set(box.__says, { 'aria-live': 'polite' });
  box.__controls = part('div', 'plane-controls', body);
  const state = box.__state = { energy: d.energy, soft: d.soft, alpha: d.alpha, turned: start, angle: own.angle,
    elongation: own.deviations[0] / own.deviations[1] };
  const energy = slider(box, 'energy', 'ε: energy kept for old tasks', 0, 1, .01);
  const bar = part('div', 'plane-energy-bar', energy.row); set(bar, { 'aria-hidden': 'true' });
  nodes.parts = [0, 1].map(() => part('div', 'plane-part', bar));
  box.__gauges = [gauge(box, 'Left for the new task'), gauge(box, 'Old outputs still change')];
  const soft = part('label', 'plane-switch', box.__controls), box1 = part('input', 'plane-soft', soft);
  box1.type = 'checkbox'; part('span', '', soft, 'Soft: remove less along weaker axes');
  box1.addEventListener('change', () => { state.soft = box1.checked; draw(box); });
  const round = Number.isFinite(state.elongation);
  box.__inputs = { soft: box1, energy, alpha: slider(box, 'alpha', 'α: higher removes more', 0, Math.max(25, d.alpha), .5),
    angle: slider(box, 'angle', 'Angle of the cloud', 0, 180, 1),
    elongation: slider(box, 'elongation', 'Elongation of the cloud', Math.min(1.1, round ? state.elongation : 1.1), Math.max(10, round ? state.elongation : 10), .1) };
  box.__inputs.elongation.input.disabled = !round;     // points on one line stay on one line
  const length = Math.hypot(...d.gradient), reach = Math.sqrt(own.power[0] + own.power[1]);
  const far = d.points.reduce((most, p) =>              // every point stays inside, also when the cloud is stretched to a line
    Math.max(most, 1.03 * Math.hypot(...p), 1.03 * reach * Math.abs(dot(p, own.axes[0])) / own.deviations[0]), 2.5 * reach);
  box.__scale = { point: half / far, gradient: .68 * half / length, length };
  let held = false;
  const follow = e => { const r = svg.getBoundingClientRect();
    state.turned = degrees([e.clientX - r.left - r.width / 2, r.top + r.height / 2 - e.clientY]); draw(box); };
  handle.addEventListener('pointerdown', e => { if (e.button) return;
    held = true; handle.setPointerCapture(e.pointerId); handle.focus({ focusVisible: false }); e.preventDefault(); });
  // A finger on the arrow does not scroll the page. `touch-action` would say so, but not every browser hears it inside an SVG.
  handle.addEventListener('touchstart', e => e.preventDefault(), { passive: false });
  handle.addEventListener('pointermove', e => { if (held) follow(e); });
  for (const end of ['pointerup', 'pointercancel', 'lostpointercapture']) handle.addEventListener(end, () => { held = false; });
  handle.addEventListener('keydown', e => {            // anticlockwise is more
    const by = { ArrowRight: 3, ArrowUp: 3, ArrowLeft: -3, ArrowDown: -3, PageUp: 15, PageDown: -15 }[e.key];
    if (by === undefined && e.key !== 'Home') return;
    e.preventDefault(); e.stopPropagation();
    state.turned = by === undefined ? start : (Math.round(state.turned) + by + 360) % 360; draw(box); }); }

function draw(box) {
  const { __nodes: n, __inputs: input, __scale: scale, __state: s, __data: d } = box;
  const points = box.__points = shaped(d.points, s.angle, s.elongation), gradient = box.__gradient = turn(s.turned).map(v => v * scale.length);
  const p = box.__picture = picture(points, gradient, s.energy, s.soft ? s.alpha : null);
  const big = v => v.map(c => c * scale.gradient), half = SIZE / 2, origin = [0, 0], tip = big(gradient), stay = big(p.left);
  set(n.circle, { r: Math.hypot(...tip) });
  set(n.cloud, { d: points.map(v => `M${at(v.map(c => c * scale.point))}h0`).join('') });
  p.axes.forEach((axis, i) => {
    const end = axis.map(c => c * DRAWN * p.deviations[i] * scale.point), back = end.map(c => -c), on = i < p.protected;
    set(n.axes[i], { d: `M${at(back)}L${at(end)}` });
    set(n.lines[i], { d: on ? `M${at(axis.map(c => -2 * half * c))}L${at(axis.map(c => 2 * half * c))}` : '', 'stroke-opacity': .15 + .4 * p.strength[i] });
    const side = dot(gradient, axis) > 0 ? -1 : 1;     // the name stands where the arrow is not
    const far = Math.max(DRAWN * p.deviations[i] * scale.point, 40) + 16, place = axis.map(c => side * c * far);
    set(n.names[i], { x: Math.max(-half + 74, Math.min(half - 74, place[0])), y: Math.max(-half + 16, Math.min(half - 8, -place[1] + 5)) });
    n.names[i].textContent = percent(p.shares[i]) + (on ? ' protected' : '');
    n.parts[i].style.width = 100 * p.shares[i] + '%'; n.parts[i].style.setProperty('--strength', p.strength[i]);
    n.parts[i].textContent = p.shares[i] < .3 ? '' : ['first', 'second'][i] + ' axis ' + percent(p.shares[i]); });
  set(n.gradient, { d: arrow(origin, tip, 0) });
  set(n.removed, { d: p.protected ? arrow(stay, tip, 0) : '' });
  set(n.left, { d: arrow(origin, stay, 16) });
  set(n.grip, { d: `M${at(origin)}L${at(tip)}` });
  for (const node of [n.tip, n.touch]) set(node, { cx: tip[0], cy: -tip[1] });
  const way = Math.round(s.turned) % 360;
  set(n.handle, { 'aria-valuenow': way, 'aria-valuetext': `${way} degrees, ${percent(p.left_share)} left` });
  input.energy.show(s.energy, percent(s.energy, 0)); input.soft.checked = s.soft;
  input.alpha.row.hidden = !s.soft; input.alpha.show(s.alpha, String(s.alpha));
  input.angle.show(s.angle, Math.round(s.angle) + '°');
  input.elongation.show(s.elongation, Number.isFinite(s.elongation) ? s.elongation.toFixed(1) + ' : 1' : 'a line');
  box.__gauges[0](p.left_share, percent(p.left_share));
  box.__gauges[1](p.change_before ? p.change / p.change_before : 0, `${short(p.change)} of ${short(p.change_before)}`);
  const said = sentence(p, s.energy);
  if (box.__says.textContent !== said) box.__says.textContent = said;
  box.dataset.draws = 1 + +(box.dataset.draws || 0); }

export default function ({ data, parentElement }) {
  const box = parentElement.querySelector('.plane'), text = data instanceof Uint8Array ? new TextDecoder().decode(data) : JSON.stringify(data);
  if (box.__text === text) return;                     // the page was drawn again: the reader's state stays
  box.__text = text; box.__data = JSON.parse(text);
  build(box, box.__data); draw(box);
}
