// The board: one slider, what it trades, and the state after each task. It computes nothing that Python has not said; between
// trained positions it interpolates and says so. The same file serves the page and the exported HTML.
const SVG = 'http://www.w3.org/2000/svg';
const html = (tag, name, parent, text) => { const node = document.createElement(tag); node.className = name;
  if (text != null) node.textContent = text; parent?.append(node); return node; };
const svg = (tag, attributes, parent, text) => { const node = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text != null) node.textContent = text; parent?.append(node); return node; };
const percent = value => value == null ? '–' : value.toFixed(1) + ' %';
const pp = value => value == null ? '–' : value.toFixed(1) + ' pp';
const lerp = (a, b, t) => a == null || b == null ? null : a + (b - a) * t;

// ---------------------------------------------------------------- what is known at a position

// {point, kind: 'live' | 'trained' | 'stored' | 'between' | 'none', from, to} at a position of the slider
function known(d, at) {
  const text = d.texts[at];
  if (d.live && d.live.text === text) return { point: d.live, kind: 'live' };
  if (d.points[text]) return { point: d.points[text], kind: 'trained' };
  if (d.stored[text]) return { point: d.stored[text], kind: 'stored' };
  const have = i => i >= 0 && i < d.texts.length && (d.stored[d.texts[i]] || d.points[d.texts[i]]);
  let low = at, high = at;
  while (low >= 0 && !have(low)) low--;
  while (high < d.texts.length && !have(high)) high++;
  if (!have(low) || !have(high)) return { point: null, kind: 'none' };
  const a = have(low), b = have(high), t = (at - low) / (high - low);
  const rows = (x, y) => x.slice(0, Math.min(x.length, y.length)).map((row, i) => row.map((v, j) => lerp(v, y[i][j], t)));
  const after = a.after.slice(0, b.after.length).map((step, k) => Object.fromEntries(
    Object.keys(step).map(name => [name, lerp(step[name], b.after[k][name], t)])));
  return { point: { text, seeds: [], matrix: rows(a.matrix, b.matrix), free: rows(a.free, b.free), after, spread: {} },
           kind: 'between', from: a.text, to: b.text };
}

const seedsOf = point => point.seeds.length > 1 ? 'mean of ' + point.seeds.length + ' seeds' : 'seed ' + point.seeds[0];

function saidOf(d, found, held) {
  const ask = d.trains ? (held ? '; let go to train it' : '') : '';
  switch (found.kind) {
    case 'live': return 'Trained, ' + seedsOf(found.point);
    case 'trained': return 'Trained, ' + seedsOf(found.point);
    case 'stored': return 'Recorded, ' + seedsOf(found.point) + ask;
    case 'between': return 'Interpolated between ' + found.from + ' and ' + found.to + ask;
    default: return d.waiting || (d.trains ? 'Not trained yet' + ask : 'Not trained');
  }
}

// ---------------------------------------------------------------- the parts, built once per shape

function build(box, d) {
  box.replaceChildren();
  const head = html('div', 'pg-head', box);
  box.__numbers = {};
  for (const [name, label, help] of [['final', 'Final average accuracy', 'mean over all tasks, after the last'],
      ['learning', 'Learned', 'mean accuracy right after each task'], ['forgetting', 'Forgotten', 'mean drop from the best']]) {
    const cell = html('div', 'pg-number', head);
    const title = html('span', 'pg-label', cell, label); title.title = help;
    if (name === 'final') box.__average = title;
    box.__numbers[name] = html('b', 'pg-value', cell);
  }
  box.__profile = svg('svg', { class: 'pg-profile', role: 'img' }, box);
  const line = html('div', 'pg-line', box);
  html('label', 'pg-label', line, d.label).htmlFor = box.__id;
  box.__value = html('b', 'pg-strength', line);
  box.__said = html('span', 'pg-said', line);
  const input = box.__input = html('input', 'pg-input', box);
  Object.assign(input, { type: 'range', id: box.__id, min: 0, step: 1 });
  const steps = html('div', 'pg-steps', box);
  const button = (name, text, act) => { const node = html('button', 'pg-button pg-' + name, steps, text);
    node.type = 'button'; node.addEventListener('click', act); return node; };
  box.__play = button('play', 'Play', () => box.__running ? halt(box) : play(box));
  button('one', 'One task', () => { halt(box); show(box, Math.min(box.__shown + 1, box.__data.tasks.length)); });
  button('reset', 'From the start', () => { halt(box); show(box, 0); });
  const speed = box.__speed = html('select', 'pg-button pg-speed', steps);
  speed.setAttribute('aria-label', 'Speed of Play');
  for (const [name, wait] of [['slow', 1500], ['normal', 700], ['fast', 250]]) { const option = html('option', '', speed, name); option.value = wait; option.selected = wait === 700; }
  box.__count = html('span', 'pg-said pg-count', steps);
  const panels = html('div', 'pg-panels', box);
  const panel = (name, title) => { const node = html('figure', 'pg-panel pg-panel-' + name, panels);
    html('figcaption', 'pg-label', node, title); return svg('svg', { role: 'img' }, node); };
  box.__other = d.other ? panel('other', d.other.title) : null;
  box.__matrix = panel('matrix', d.other ? 'Protected: the same at the slider\'s threshold' : 'Accuracy: row = after training on, column = evaluated on');
  box.__free = panel('free', 'Free directions of each layer, after each task');
  box.__plane = panel('plane', 'Plasticity (up) against forgetting (right)');
  box.__plane.tabIndex = -1;
  box.__sentence = html('p', 'pg-sentence', box);
  box.__sentence.setAttribute('aria-live', 'polite');
}

// ---------------------------------------------------------------- drawing

function axis(root, { x0, x1, y0, y1 }, marks, along, place, spelled) {
  for (const mark of marks) {
    const at = place(mark);
    if (along === 'y') {
      svg('line', { x1: x0, x2: x1, y1: at, y2: at, class: 'pg-grid' }, root);
      svg('text', { x: x0 - 6, y: at + 4, class: 'pg-tick', 'text-anchor': 'end' }, root, spelled(mark));
    } else svg('text', { x: at, y: y0 + 16, class: 'pg-tick', 'text-anchor': 'middle' }, root, spelled(mark));
  }
}

const path = points => points.map(([x, y], i) => (i ? 'L' : 'M') + x.toFixed(1) + ' ' + y.toFixed(1)).join(' ');

function drawProfile(box, d, at, found, hidden, whole) {              // three lines over the slider: learned, final, forgotten
  box.__profile.style.display = d.texts.length < 2 ? 'none' : '';
  if (d.texts.length < 2) return;
  const root = box.__profile, width = Math.max(box.clientWidth || 800, 280), height = 170;
  root.replaceChildren(); root.setAttribute('viewBox', `0 0 ${width} ${height}`); root.style.height = height + 'px';
  const inset = 10, x = i => inset + i * (width - 2 * inset) / Math.max(d.texts.length - 1, 1), y = v => 12 + (100 - v) * (height - 24) / 100;
  for (const mark of [0, 50, 100]) { svg('line', { x1: 0, x2: width, y1: y(mark), y2: y(mark), class: 'pg-grid' }, root);
    svg('text', { x: 2, y: y(mark) - 3, class: 'pg-tick' }, root, mark + (mark === 100 ? ' %' : '')); }
  const points = d.texts.map((text, i) => ({ i, p: d.stored[text] || d.points[text] || (d.live?.text === text ? d.live : null) })).filter(q => q.p);
  const last = p => p.after[p.after.length - 1] || {};
  const lines = [['learning', 'learned', '5 4'], ['forgetting', 'forgotten', '1.5 4'], ['final', 'final', '']];
  for (const [name, label, dash] of hidden ? [] : lines) {
    if (points.length > 1) svg('path', { d: path(points.map(q => [x(q.i), y(last(q.p)[name] ?? 0)])), class: 'pg-curve pg-curve-' + name, 'stroke-dasharray': dash }, root);
    for (const q of points) {
      svg('circle', { cx: x(q.i), cy: y(last(q.p)[name] ?? 0), r: name === 'final' ? 3 : 2, class: 'pg-mark' }, root);
      const sd = q.p.spread?.[name];
      if (name === 'final' && sd) svg('line', { x1: x(q.i), x2: x(q.i), y1: y(last(q.p)[name] - sd), y2: y(last(q.p)[name] + sd), class: 'pg-bar' }, root);
    }
    const [share, drop] = { learning: [0.3, -7], forgetting: [0.66, 16], final: [0.36, 17] }[name];
    const q = points.length > 1 && points[Math.floor(points.length * share)];
    if (q) svg('text', { x: x(q.i), y: y(last(q.p)[name] ?? 0) + drop, class: 'pg-name' + (name === 'final' ? ' pg-strong' : ''), 'text-anchor': 'middle' }, root, label);
  }
  svg('line', { x1: x(at), x2: x(at), y1: 4, y2: height, class: 'pg-now' }, root);
  if (points.length < 3 && d.trains && d.movable && !hidden) svg('text', { x: width / 2, y: y(75), class: 'pg-name', 'text-anchor': 'middle' }, root, 'Move the slider, or draw the frontier, to see the curve');
  if (found.point && !hidden && whole) svg('circle', { cx: x(at), cy: y(last(found.point).final ?? 0), r: 6, class: 'pg-dot' + (found.kind === 'between' ? ' pg-open' : '') }, root);
  root.setAttribute('aria-label', 'Final average accuracy, learning accuracy and forgetting over the slider\'s positions');
}

const pictures = new Map();                                   // pixels → data address, drawn once
function picture(pixels) {
  const key = pixels.join();
  if (!pictures.has(key)) {
    const canvas = document.createElement('canvas'), side = Math.sqrt(pixels.length); canvas.width = canvas.height = side;
    const image = canvas.getContext('2d').createImageData(side, side);
    pixels.forEach((v, i) => image.data.set([v, v, v, 255], 4 * i));
    canvas.getContext('2d').putImageData(image, 0, 0); pictures.set(key, canvas.toDataURL());
  }
  return pictures.get(key);
}

function drawMatrix(root, d, point, shown, hidden) {
  const tasks = d.tasks.length, left = 30, side = 300, cell = (side - left) / tasks;
  const shows = d.tasks.every(task => task.image), thumb = Math.min(cell - 2, 22), top = 22 + (shows ? thumb + 3 : 0);
  root.replaceChildren(); root.setAttribute('viewBox', `0 0 ${side} ${side - left + top}`);
  if (shows) d.tasks.forEach((task, i) => { const node = svg('image', { href: picture(task.image), x: left + (i + 0.5) * cell - thumb / 2, y: 20, width: thumb, height: thumb, class: 'pg-thumb' }, root);
    svg('title', {}, node, `What ${task.name} shows: ${task.about}`); });
  d.tasks.forEach((task, i) => {
    const every = tasks > 12 && i % 2 ? '' : task.name;
    svg('text', { x: left + (i + 0.5) * cell, y: 12, class: 'pg-tick', 'text-anchor': 'middle' }, root, every);
    svg('rect', { x: left + i * cell + 2, y: 15, width: cell - 4, height: 3, fill: task.colour }, root);  // not the name: some hues are faint on a dark ground
    svg('text', { x: left - 5, y: top + (i + 0.5) * cell + 4, class: 'pg-tick', 'text-anchor': 'end' }, root, every);
  });
  for (let i = 0; i < tasks; i++) for (let j = 0; j <= i; j++) {
    const value = hidden || !point || i >= shown ? null : point.matrix[i]?.[j];
    const place = { x: left + j * cell + 0.5, y: top + i * cell + 0.5, width: cell - 1, height: cell - 1, rx: 1.5 };
    if (value == null) { svg('rect', { ...place, class: 'pg-empty' }, root); continue; }
    const [ground, ink] = d.scale[Math.round(Math.min(Math.max(value, 0), 100) / 100 * (d.scale.length - 1))];
    const node = svg('rect', { ...place, fill: ground }, root);
    svg('title', {}, node, `${d.tasks[j].name} after ${d.tasks[i].name}: ${percent(value)}`);
    if (tasks <= 12) svg('text', { x: left + (j + 0.5) * cell, y: top + (i + 0.5) * cell + 3.5, class: 'pg-cell', 'text-anchor': 'middle', fill: ink, 'font-size': Math.min(12, cell * 0.44) }, root, value.toFixed(0));
  }
  const row = !hidden && point && shown ? point.matrix[shown - 1] : null;
  root.setAttribute('aria-label', row ? `Accuracy after ${d.tasks[shown - 1].name}: ` + row.map((v, j) => `${d.tasks[j].name} ${percent(v)}`).join(', ') : 'Accuracy matrix, nothing learned yet');
}

function drawFree(box, d, point, shown, hidden) {
  const root = box.__free, width = 300, height = 292, frame = { x0: 40, x1: 222, y0: height - 26, y1: 12 }, tasks = d.tasks.length;
  root.replaceChildren(); root.setAttribute('viewBox', `0 0 ${width} ${height}`);
  const x = t => frame.x0 + (t + 1) * (frame.x1 - frame.x0) / tasks, y = v => frame.y0 - v * (frame.y0 - frame.y1);
  axis(root, frame, [0, 0.25, 0.5, 0.75, 1], 'y', y, v => Math.round(100 * v) + ' %');
  const step = Math.ceil(tasks / 6);
  axis(root, frame, d.tasks.map((_, t) => t).filter(t => t % step === step - 1), 'x', x, t => d.tasks[t].name);
  if (!d.projects) svg('text', { x: (frame.x0 + frame.x1) / 2, y: y(0.5), class: 'pg-name', 'text-anchor': 'middle' }, root, 'This rule protects no directions');
  if (!point || hidden || !d.projects) return;
  const ends = d.layers.map((name, l) => ({ name, l, y: y(shown ? point.free[shown - 1]?.[l] ?? 1 : 1) })).sort((a, b) => a.y - b.y);
  for (let i = 1; i < ends.length; i++) ends[i].put = Math.max(ends[i].y, (ends[i - 1].put ?? ends[i - 1].y) + 14);
  for (let i = ends.length - 1, floor = frame.y0; i >= 0; i--) { ends[i].put = Math.min(ends[i].put ?? ends[i].y, floor); floor = ends[i].put - 14; }
  for (const { name, l, put } of ends) {
    const points = [[frame.x0, y(1)], ...point.free.slice(0, shown).map((row, t) => [x(t), y(row[l])])];
    svg('path', { d: path(points), class: 'pg-curve', 'stroke-dasharray': ['', '6 4', '2 3', '8 3 2 3', '1 5'][l % 5] }, root);
    for (const [px, py] of points.slice(1)) svg('circle', { cx: px, cy: py, r: 2.5, class: 'pg-mark' }, root);
    const share = shown ? point.free[shown - 1]?.[l] : 1;
    svg('text', { x: x(shown - 1) + 7, y: put + 4, class: 'pg-name' }, root, `${name} ${Math.round(100 * (share ?? 1))} %`);
  }
  root.setAttribute('aria-label', shown ? 'Directions left free: ' + d.layers.map((name, l) => `${name} ${Math.round(100 * point.free[shown - 1][l])} %`).join(', ') : 'All directions are free');
}

function planeFrame(d) {
  const all = [...Object.values(d.stored), ...Object.values(d.points), ...(d.live ? [d.live] : [])].map(p => p.after[p.after.length - 1]).filter(Boolean);
  const most = Math.max(20, ...all.map(p => p.forgetting ?? 0)), least = Math.min(80, ...all.map(p => p.learning ?? 100));
  return { x0: 40, x1: 290, y0: 266, y1: 12, high: Math.ceil((most + 4) / 10) * 10, low: Math.max(0, Math.floor((least - 4) / 10) * 10) };
}
const planeX = (f, v) => f.x0 + (v / f.high) * (f.x1 - f.x0);
const planeY = (f, v) => f.y0 - ((v - f.low) / (100 - f.low)) * (f.y0 - f.y1);

function drawPlane(box, d, found, shown, hidden) {
  const root = box.__plane, f = planeFrame(d), last = p => p.after[p.after.length - 1];
  root.replaceChildren(); root.setAttribute('viewBox', '0 0 300 292');
  const span = f.high > 40 ? 20 : 10;
  axis(root, f, Array.from({ length: Math.floor(f.high / span) + 1 }, (_, i) => i * span), 'x', v => planeX(f, v), v => v + (v ? '' : ' pp'));
  axis(root, f, [0, 20, 40, 60, 80, 100].filter(v => v >= f.low), 'y', v => planeY(f, v), v => v + ' %');
  const spots = d.texts.map(text => ({ text, p: d.stored[text] || d.points[text] })).filter(q => q.p && last(q.p));
  if (!hidden) {
    if (spots.length > 1) svg('path', { d: path(spots.map(q => [planeX(f, last(q.p).forgetting), planeY(f, last(q.p).learning)])), class: 'pg-curve pg-faint' }, root);
    for (const { text, p } of spots) {
      const cx = planeX(f, last(p).forgetting), cy = planeY(f, last(p).learning);
      for (const [sd, dx, dy] of [[p.spread?.forgetting, 1, 0], [p.spread?.learning, 0, 1]]) if (sd) {
        const px = dx * sd / f.high * (f.x1 - f.x0), py = dy * sd / (100 - f.low) * (f.y0 - f.y1);
        svg('line', { x1: cx - px, x2: cx + px, y1: cy - py, y2: cy + py, class: 'pg-bar' }, root); }
      svg('title', {}, svg('circle', { cx, cy, r: 3, class: 'pg-mark' }, root), `${text}: learned ${percent(last(p).learning)}, forgotten ${pp(last(p).forgetting)} (${seedsOf(p)})`);
    }
    d.trail.map(text => d.points[text] || (d.live?.text === text ? d.live : null)).filter(Boolean).forEach(p =>
      svg('circle', { cx: planeX(f, last(p).forgetting), cy: planeY(f, last(p).learning), r: 5, class: 'pg-trail' }, root));
  }
  const now = !hidden && found.point && shown ? found.point.after[shown - 1] : null;
  if (now) {
    const cx = planeX(f, Math.min(now.forgetting ?? 0, f.high)), cy = planeY(f, Math.max(now.learning, f.low));
    if (box.__guess) svg('line', { x1: planeX(f, box.__guess.x), y1: planeY(f, box.__guess.y), x2: cx, y2: cy, class: 'pg-miss' }, root);
    svg('circle', { cx, cy, r: 7, class: 'pg-dot' + (found.kind === 'between' ? ' pg-open' : '') }, root);
  }
  if (box.__guess) svg('path', { d: `M${planeX(f, box.__guess.x) - 6} ${planeY(f, box.__guess.y) - 6}l12 12m0 -12l-12 12`, class: 'pg-guess' }, root);
  if (hidden) { root.setAttribute('aria-label', 'Place your prediction: arrow keys move the mark, Enter places it'); root.tabIndex = 0;
    const aim = box.__aim ??= { x: f.high / 2, y: (100 + f.low) / 2 };
    svg('circle', { cx: planeX(f, aim.x), cy: planeY(f, aim.y), r: 7, class: 'pg-aim' }, root);
    svg('text', { x: 165, y: 240, class: 'pg-name', 'text-anchor': 'middle' }, root, 'Click where the dot will be'); }
  else { root.tabIndex = -1; root.setAttribute('aria-label', now ? `Learned ${percent(now.learning)}, forgotten ${pp(now.forgetting)}` : 'Nothing learned yet'); }
}

function sentence(box, d, found, shown) {
  const point = found.point, now = point && shown ? point.after[shown - 1] : null;
  if (!now) return found.kind === 'none' ? d.waiting || '' : 'Nothing learned yet. Press Play or One task.';
  const free = point.free[shown - 1], least = free.reduce((a, v, i) => v < free[a] ? i : a, 0);
  const room = d.projects && free.some(v => v < 0.9995) ? ` Least room: ${d.layers[least]}, ${Math.round(100 * free[least])} % of its input directions are free.` : '';
  const all = { ...d.stored, ...d.points, ...(d.live ? { [d.live.text]: d.live } : {}) };
  const texts = d.texts.filter(text => all[text]), last = text => all[text].after[all[text].after.length - 1].final;
  const top = texts.length > 2 ? texts.reduce((a, b) => last(b) > last(a) ? b : a) : null;
  const best = top && shown === d.tasks.length ? ` The best known is ${d.short} = ${top}, ${percent(last(top))} (${seedsOf(all[top])}).` : '';
  const off = (mark, real) => Math.abs(mark - real) < 1 ? 'right within a point' : `${pp(Math.abs(mark - real))} too ${mark > real ? 'high' : 'low'}`;
  const guess = box.__guess ? ` Your mark was ${off(box.__guess.y, now.learning)} in what is learned, ${off(box.__guess.x, now.forgetting)} in what is forgotten.` : '';
  if (d.other) {
    const plain = d.other.point.after[shown - 1];
    return `After ${shown} of ${d.tasks.length} tasks: the unprotected network stands at ${percent(plain.final)} on average, the protected one (${d.short} = ${point.text}) at ${percent(now.final)}. ${d.tasks[0].name} is down to ${percent(d.other.point.matrix[shown - 1][0])} without protection, ${percent(point.matrix[shown - 1][0])} with it.${room}${best}`;
  }
  return `After ${shown} of ${d.tasks.length} tasks: learned ${percent(now.learning)}, forgotten ${pp(now.forgetting)}, ${percent(now.final)} on average.${room}${best}${guess}`;
}

function draw(box) {
  const d = box.__data, at = +box.__input.value, found = known(d, at), shown = box.__shown;
  const hidden = d.predict && !box.__guess && found.kind !== 'none';
  const now = found.point && shown ? found.point.after[shown - 1] : null;
  const whole = shown === d.tasks.length;
  box.__average.textContent = whole || hidden ? 'Final average accuracy' : 'Average accuracy so far';
  box.__value.textContent = d.movable ? d.texts[at] : '';
  box.__input.setAttribute('aria-valuetext', d.texts[at]);
  box.__said.textContent = hidden ? 'Predict first: mark the place on the plane' : saidOf(d, found, box.__held || d.texts[at] !== d.texts[d.at]);
  box.__numbers.final.textContent = hidden ? '?' : percent(now?.final);
  box.__numbers.learning.textContent = hidden ? '?' : percent(now?.learning);
  box.__numbers.forgetting.textContent = hidden ? '?' : pp(now?.forgetting);
  box.__count.textContent = hidden ? '' : `${shown} of ${d.tasks.length} tasks`;
  for (const node of box.querySelectorAll('.pg-button')) node.disabled = hidden;
  drawProfile(box, d, at, found, hidden, whole);
  drawMatrix(box.__matrix, d, found.point, shown, hidden);
  if (box.__other) drawMatrix(box.__other, d, d.other.point, shown, false);
  drawFree(box, d, found.point, shown, hidden);
  drawPlane(box, d, found, shown, hidden);
  box.__sentence.textContent = hidden ? 'Where will this network end? Mark it on the plane, then see.' : sentence(box, d, found, shown);
  box.dataset.kind = found.kind; box.dataset.at = d.texts[at]; box.dataset.shown = shown;
  box.dataset.final = now?.final ?? ''; box.dataset.draws = 1 + +(box.dataset.draws || 0);
}

// ---------------------------------------------------------------- acting

function show(box, shown) { box.__shown = shown; draw(box); }
function halt(box) { clearInterval(box.__running); box.__running = 0; box.__play.textContent = 'Play'; }
function play(box) {
  if (box.__shown >= box.__data.tasks.length) show(box, 0);
  box.__play.textContent = 'Pause';
  box.__running = setInterval(() => { if (!box.isConnected) return halt(box);
    show(box, box.__shown + 1); if (box.__shown >= box.__data.tasks.length) halt(box); }, +box.__speed.value);
}

function place(box, event) {                                  // a prediction on the plane
  const d = box.__data, f = planeFrame(d), box2 = box.__plane.getBoundingClientRect();
  const px = (event.clientX - box2.left) / box2.width * 300, py = (event.clientY - box2.top) / box2.height * 292;
  guess(box, { x: (px - f.x0) / (f.x1 - f.x0) * f.high, y: f.low + (f.y0 - py) / (f.y0 - f.y1) * (100 - f.low) });
}
function guess(box, { x, y }) {
  const f = planeFrame(box.__data);
  box.__guess = { x: Math.min(Math.max(x, 0), f.high), y: Math.min(Math.max(y, f.low), 100) };
  draw(box);
}
const guessing = box => box.__data.predict && !box.__guess;

export default function mount({ data, parentElement, setStateValue }) {
  const box = parentElement.querySelector('.playground'), d = JSON.parse(typeof data === 'string' ? data : new TextDecoder().decode(data));
  box.__id ??= 'pg-' + Math.random().toString(36).slice(2);
  const shape = JSON.stringify([d.label, d.texts, d.other?.title]), before = box.__data;
  if (box.__shape !== shape) { box.__shape = shape; build(box, d); box.__wired = false; box.__shown = d.tasks.length; }
  if (before && (before.tasks.length !== d.tasks.length)) box.__shown = d.tasks.length;
  if (!before || before.asked !== d.asked || before.predict !== d.predict) box.__guess = null;
  box.__data = d; box.__say = setStateValue;
  const input = box.__input;
  input.max = d.texts.length - 1; input.hidden = d.texts.length < 2;
  const waits = box.__asked != null && box.__asked !== d.texts[d.at] && Date.now() - box.__when < 4000;
  if (!box.__held && !waits) { input.value = d.at; box.__asked = null; }
  draw(box);
  if (box.__wired) return;
  box.__wired = true;
  input.addEventListener('pointerdown', () => { box.__held = true; });
  input.addEventListener('input', () => { box.__guess = null; draw(box); });
  input.addEventListener('change', () => { box.__held = false; if (!box.__running) box.__shown = box.__data.tasks.length; box.__asked = box.__data.texts[+input.value]; box.__when = Date.now();
    box.__say?.('chosen', { step: box.__asked, move: box.__when }); draw(box); });
  for (const end of ['pointerup', 'pointercancel']) input.addEventListener(end, () => { box.__held = false; });
  box.__plane.addEventListener('click', event => { if (guessing(box)) place(box, event); });
  box.__plane.addEventListener('keydown', event => {
    if (!guessing(box)) return;
    const move = { ArrowLeft: [-2, 0], ArrowRight: [2, 0], ArrowUp: [0, 2], ArrowDown: [0, -2] }[event.key];
    if (move) { const f = planeFrame(box.__data); event.preventDefault();
      box.__aim = { x: Math.min(Math.max(box.__aim.x + move[0], 0), f.high), y: Math.min(Math.max(box.__aim.y + move[1], f.low), 100) }; draw(box); box.__plane.focus(); }
    if (event.key === 'Enter' || event.key === ' ') { event.preventDefault(); guess(box, box.__aim); } });
  new ResizeObserver(() => { if (box.isConnected) draw(box); }).observe(box);
}
