// How often this tab is worth redrawing: not at all while hidden, more seldom the longer drawing keeps the browser busy.
const LOOK = 5000, MOST = 8, BUSY = 0.15, IDLE = 0.04;   // ms between looks, seconds, shares of the time

export default function ({ data, parentElement, setStateValue }) {
  const state = window.__pace ??= { pace: 1, spent: 0 };
  state.told = data.pace; state.follows = data.follows;    // what the server knows, and whether it matters
  state.tell = () => {
    const now = document.hidden ? 0 : state.pace;
    if (state.follows && now !== state.told && parentElement.isConnected) { state.told = now; setStateValue('pace', now); } };
  state.tell();
  if (state.wired) return;
  state.wired = true;
  try {
    new PerformanceObserver(list => list.getEntries().forEach(task => { state.spent += task.duration; }))
      .observe({ type: 'longtask', buffered: false });
  } catch { /* a browser that does not tell: once a second */ }
  document.addEventListener('visibilitychange', () => { state.spent = 0; state.tell(); });
  setInterval(() => {
    const share = state.spent / LOOK;
    state.spent = 0;
    if (document.hidden) return;
    if (share > BUSY) state.pace = Math.min(MOST, 2 * state.pace);
    else if (share < IDLE) state.pace = Math.max(1, state.pace / 2);
    state.tell(); }, LOOK);
}
