const library = () => window.__plotly ??= new Promise((ok, no) => {
  const script = document.createElement('script');
  script.src = 'live/plotly.min.js'; script.onload = () => ok(window.Plotly); script.onerror = no;
  document.head.append(script); });

const ink = node => getComputedStyle(node).getPropertyValue('--st-text-color').trim() || '#31333f';

const isDark = node => {                               // light text: the page's ground is dark
  const style = new Option().style; style.color = ink(node);
  return (style.color.match(/\d+/g) || [0, 0, 0]).slice(0, 3).reduce((sum, part) => sum + +part, 0) > 384; };

const onGround = (traces, dark) => traces.map(trace =>   // a difference's zero is the colour of the ground
  dark && trace.meta?.dark ? { ...trace, colorscale: trace.meta.dark } : trace);

async function dress(P, box) {                         // light and dark follow at once
  const signed = box.data.flatMap((trace, n) => trace.meta?.dark ? [n] : []);
  await P.relayout(box, { 'font.color': box.__ink });
  if (signed.length) {
    const drawn = onGround(box.__figure.data, isDark(box));
    await P.restyle(box, { colorscale: signed.map(n => drawn[n].colorscale) }, signed); } }

function download(name, type, text) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], { type })); link.download = name; link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000); }

const counted = axis => {                              // ticks that count from 1: "T1" or "layer 1" stands at 0
  const plain = text => String(text).replace(/<[^>]*>|■/g, '').trim();
  const first = (axis?.ticktext || []).map((text, i) => [/^(\D*)(\d+)\b/.exec(plain(text)), axis.tickvals[i]])
    .find(([found, value]) => found && +found[2] === value + 1);
  return value => first && Number.isInteger(value) && value >= 0 ? first[0][1] + (value + 1) : value; };

function table(box) {                                  // every drawn point: trace, x, y and, for maps, z; unknown: empty
  const quote = v => v == null || Number.isNaN(v) ? '' : /[",\n]/.test(v) ? '"' + String(v).replaceAll('"', '""') + '"' : String(v);
  const rows = [['trace', 'x', 'y', 'z']];
  box._fullData.forEach((trace, n) => {
    const name = trace.name || trace.type + ' ' + (n + 1), at = (list, i) => list && list.length ? list[i] : i;
    const [across, up] = ['x', 'y'].map(k => counted(box._fullLayout[(trace[k + 'axis'] || k).replace(k, k + 'axis')]));
    const add = (x, y, z) => rows.push([name, across(x), up(y), z]);
    if (trace.z && trace.z.length && trace.z[0] && trace.z[0].length != null)
      trace.z.forEach((row, j) => Array.from(row).forEach((z, i) => add(at(trace.x, i), at(trace.y, j), z)));
    else for (let i = 0; i < Math.max(trace.x?.length || 0, trace.y?.length || 0); i++)
      add(at(trace.x, i), at(trace.y, i), ''); });
  return rows.map(row => row.map(quote).join(',')).join('\n') + '\n'; }

function picture(P, box, format) {                     // on white with dark text, its title above: fit for paper
  const layout = structuredClone(box.__figure.layout), height = (layout.height || 340) + 34, meta = layout.meta || {};
  Object.assign(layout, { paper_bgcolor: '#ffffff', plot_bgcolor: '#ffffff', width: Math.max(box.clientWidth, 600), height,
    title: { text: meta.title || '', x: 0.01, xanchor: 'left', y: 1, yanchor: 'top', pad: { t: 12 }, font: { size: 16 } },
    margin: { ...(layout.margin || layout.template?.layout?.margin), t: ((layout.margin || {}).t ?? 28) + 34 } });
  layout.font = { ...layout.font, color: '#31333f' };
  P.downloadImage({ data: box.__figure.data, layout, config: {} },
    { format, filename: meta.file || 'figure', width: layout.width, height, scale: format === 'png' ? 2 : 1 }); }

export default function ({ data, parentElement, setStateValue }) {
  const frame = parentElement.querySelector('.liveplot-frame'), box = frame.querySelector('.liveplot');
  const bytes = data;
  box.__newest = bytes;
  const text = new TextDecoder().decode(bytes);
  const figure = JSON.parse(text), meta = figure.layout.meta || {};
  box.style.height = (figure.layout.height || 340) + 'px';
  box.setAttribute('role', 'figure'); box.setAttribute('aria-label', meta.alt || meta.title || 'figure');
  if (!box.dataset.drawn && !frame.querySelector('.liveplot-wait')) {
    const wait = document.createElement('div'); wait.className = 'liveplot-wait'; wait.textContent = 'Drawing…'; frame.append(wait); }
  const visible = () => document.hidden
    ? new Promise(ok => document.addEventListener('visibilitychange', ok, { once: true })) : Promise.resolve();
  library().then(async P => {
    await visible();
    if (box.__newest !== bytes || !box.isConnected) return;              // a newer figure came meanwhile
    if (box.__text === text && box.__ink === ink(box)) return;           // nothing new
    box.__text = text; box.__ink = ink(box);
    box.__figure = JSON.parse(text);                                     // untouched by drawing: what is saved
    const clear = 'rgba(0,0,0,0)';
    Object.assign(figure.layout, { paper_bgcolor: clear, plot_bgcolor: clear, autosize: true,
      font: { ...figure.layout.font, color: ink(box) } });
    await P.react(box, onGround(figure.data, isDark(box)), figure.layout, figure.config);
    frame.querySelector('.liveplot-wait')?.remove();
    quiet(box);
    if (!box.__wired) {
      box.__wired = true;
      oneStop(box);
      box.on('plotly_click', e => { const p = e.points[0];
        setStateValue('point', { trace: p.curveNumber, i: p.pointNumber, x: p.x, y: p.y, z: p.z ?? null, custom: p.customdata ?? null,
                                 click: Date.now() }); });
      box.save = {                                                       // the figure's menu calls these
        svg: () => picture(P, box, 'svg'), png: () => picture(P, box, 'png'),
        csv: () => download(((box.__figure.layout.meta || {}).file || 'figure') + '.csv', 'text/csv', table(box)) };
      new MutationObserver(() => { const now = ink(box);
        if (box.__ink !== now && box.isConnected) { box.__ink = now; dress(P, box); } })
        .observe(document.querySelector('.stApp') || document.body, { attributes: true }); }
    box.dataset.drawn = 1 + +(box.dataset.drawn || 0);
  }, () => { const wait = frame.querySelector('.liveplot-wait');
    if (wait) wait.textContent = 'The plot library could not be loaded; start the dashboard with `plastiscope open`.'; });
}
