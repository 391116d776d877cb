// One entry in the browser's history for each visit of a page, with the address that the reader left it with.
//
// Streamlit's server adds an entry for every key that it writes into the address, and cuts a page's own keys from the
// address just before it leads to another page. Back would stop at each of these. Here a page writes over its entry,
// and what is written on the way out does not count. A step of a lesson is a place of its own.
(() => {
  if (window.plastiscopeHistory) return;
  window.plastiscopeHistory = true;
  const PLACES = ['lesson', 'step', 'term'];
  const push = history.pushState.bind(history), replace = history.replaceState.bind(history);
  const place = url => [url.pathname, ...PLACES.map(key => url.searchParams.get(key))].join('\n');
  let left = location.href, acted = true;              // the address at, and whether there was, a press since the last entry
  for (const kind of ['pointerdown', 'keydown'])
    window.addEventListener(kind, () => { left = location.href; acted = true; }, true);
  history.pushState = (state, title, address) => {
    const to = new URL(address, location.href), here = new URL(location.href), before = new URL(left);
    const within = to.pathname === here.pathname;
    if (within && (!acted || place(to) === place(here))) return replace(state, title, address);
    if (!within && before.pathname === here.pathname) replace(history.state, '', left);
    acted = false;
    push(state, title, address);
  };
})();
