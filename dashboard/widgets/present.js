// Presenter mode: one figure at a time, as large as the window, with keys. On while the page holds `.st-key-presenting`.
//
// A figure is enlarged where it is, by a transform, so that it stays the same figure: its zoom, clicks and hover go on.
(() => {
  if (window.plastiscopePresent) return;
  window.plastiscopePresent = true;
  const on = () => document.querySelector('.st-key-presenting') !== null;
  const panels = () => [...document.querySelectorAll('[class*="st-key-panel-"]')].filter(panel =>
    panel.querySelector('.liveplot, [data-measured], .playground-board') && !panel.querySelector('[class*="st-key-panel-"]'));
  const WIDEST = 860;                                  // px before it is enlarged: a narrower figure has larger type
  let name = '';                                       // class of the panel that is shown
  const nameOf = panel => [...panel.classList].find(part => part.startsWith('st-key-panel-')) || '';

  function fit(panel) {
    panel.style.cssText = '';
    panel.classList.add('presented');
    const left = 24, top = 96, width = Math.min(panel.getBoundingClientRect().width, WIDEST);
    Object.assign(panel.style, { position: 'fixed', width: `${width}px`, zIndex: 50, transformOrigin: 'top left' });
    const height = panel.getBoundingClientRect().height;
    const scale = Math.min((innerWidth - 2 * left) / width, (innerHeight - top - 24) / height);
    Object.assign(panel.style, { transform: `scale(${scale})`, left: `${(innerWidth - width * scale) / 2}px`,
      top: `${top + (innerHeight - top - 24 - height * scale) / 2}px` }); }

  function show(by) {
    const all = panels();
    all.forEach(panel => { panel.classList.remove('presented'); panel.style.cssText = ''; });
    if (!on() || !all.length) return;
    const at = Math.max(0, all.findIndex(panel => nameOf(panel) === name)), next = (at + by + all.length) % all.length;
    name = nameOf(all[next]);
    fit(all[next]); }

  addEventListener('keydown', event => {
    if (!on() || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.target.closest('input, textarea, [contenteditable], [role=radiogroup], [role=slider], .modebar')) return;
    const by = { ArrowRight: 1, PageDown: 1, ArrowLeft: -1, PageUp: -1 }[event.key];
    if (by) { show(by); event.preventDefault(); event.stopPropagation(); }
    if (event.key === 'Escape') document.querySelector('.st-key-present-leave button')?.click();
  }, true);
  addEventListener('resize', () => show(0));
  let waiting = 0;
  new MutationObserver(() => {                         // figures come one after the other, and again with every task
    const shown = document.querySelector('.presented');
    if (on() ? shown && nameOf(shown) === name && shown.style.transform : !shown) return;
    clearTimeout(waiting); waiting = setTimeout(() => show(0), 200);
  }).observe(document.body, { childList: true, subtree: true });
})();
