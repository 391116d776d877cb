const shown = value => value == null ? '–' : value.toFixed(1) + ' %';
const mean = row => row.reduce((a, b) => a + b, 0) / row.length;
const part = (tag, name, parent) => { const node = document.createElement(tag); node.className = name; parent.append(node); return node; };

function build(box, d) {                               // the rows, once per shape of the data
  box.replaceChildren();
  const head = part('div', 'threshold-head', box);
  part('span', 'threshold-says', head); box.__value = part('b', 'threshold-value', head);
  const input = box.__input = part('input', 'threshold-input', box);
  input.type = 'range'; input.min = 0; input.step = 1;
  const names = part('div', 'threshold-row threshold-names', box);
  for (const text of ['', 'left free (dotted: in the run)', '', 'passed', 'interference']) part('span', '', names).textContent = text;
  box.__rows = ['mean', ...d.layers].map((name, i) => {
    const row = part('div', 'threshold-row' + (i ? '' : ' threshold-mean'), box);
    part('span', '', row).textContent = name;
    const track = part('div', 'threshold-track', row);
    return { fill: part('div', 'threshold-fill', track), was: part('div', 'threshold-was', track),
             free: part('span', '', row), passed: part('span', '', row), felt: part('span', '', row) }; });
}

function draw(box, at) {                               // numbers come ready from the server: nothing is computed twice
  const d = box.__data, free = d.nullity[at], passed = d.passed[at], felt = d.interference[at];
  box.__value.textContent = d.steps[at];
  box.__input.setAttribute('aria-valuetext', d.steps[at]);
  const fill = (row, count, was, p, f, said) => {
    row.fill.style.width = 100 * count / d.width + '%'; row.was.style.left = 100 * was / d.width + '%';
    row.free.textContent = said; row.passed.textContent = shown(p); row.felt.textContent = shown(f); };
  const means = d.means;                               // so that they are the numbers above, to the last digit
  fill(box.__rows[0], mean(free), mean(d.recorded), means.passed[at], means.interference[at], shown(means.nullity[at]));
  free.forEach((count, i) => fill(box.__rows[i + 1], count, d.recorded[i], passed[i], felt[i],
    count + ' of ' + d.width + (count === d.recorded[i] ? '' : ', was ' + d.recorded[i])));
  box.dataset.at = at; box.dataset.draws = 1 + +(box.dataset.draws || 0); }

export default function ({ data, parentElement, setStateValue }) {
  const box = parentElement.querySelector('.threshold'), d = JSON.parse(new TextDecoder().decode(data));
  const shape = JSON.stringify([d.layers, d.width]);
  if (box.__shape !== shape) { box.__shape = shape; build(box, d); box.__wired = false; }
  box.__data = d; box.__say = setStateValue;           // handlers are attached once: they read the newest from the node
  const input = box.__input;
  box.querySelector('.threshold-says').textContent = d.says;
  input.hidden = d.steps.length < 2;                   // a knee cannot be moved
  input.max = d.steps.length - 1; input.setAttribute('aria-label', d.says);
  const waits = box.__asked != null && box.__asked !== d.steps[d.at] && Date.now() - box.__when < 3000;
  if (!box.__held && !waits) { input.value = d.at; box.__asked = null; }   // until the server has caught up the reader's hand decides
  draw(box, Math.min(+input.value, d.steps.length - 1));
  if (!box.__wired) {
    box.__wired = true;
    input.addEventListener('pointerdown', () => { box.__held = true; });
    input.addEventListener('input', () => draw(box, +input.value));
    input.addEventListener('change', () => { box.__held = false;
      box.__asked = box.__data.steps[+input.value]; box.__when = Date.now();
      box.__say('chosen', { step: box.__asked, move: box.__when }); });
    for (const end of ['pointerup', 'pointercancel']) input.addEventListener(end, () => { box.__held = false; }); }
}
