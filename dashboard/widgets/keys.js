// The key ? shows which keys there are, on every page and without the server.
(() => {
  if (window.plastiscopeKeys) return;
  window.plastiscopeKeys = true;
  const KEYS = [
    ['?', 'this list'],
    ['Space', 'pause the run in training, or resume it'],
    ['S', 'one step of a paused run'],
    ['F', 'freeze the figures while training goes on, or let them follow again'],
    ['\u2190 \u2192 \u2191 \u2193', 'the next cell (Forgetting), the next step (a lesson)'],
    ['Tab, then \u2190 \u2192', 'the tools of a figure, one after the other'],
    ['\u2190 \u2192 or Page up, Page down', 'the next figure in presenter mode; Esc leaves it'],
  ];

  function build() {
    const dialog = document.createElement('dialog'), title = document.createElement('h2');
    dialog.className = 'plastiscope-keys';
    title.id = 'plastiscope-keys-title';
    title.textContent = 'Keys';
    dialog.setAttribute('aria-labelledby', title.id);
    const list = document.createElement('dl');
    for (const [keys, does] of KEYS) {
      const term = document.createElement('dt'), what = document.createElement('dd');
      term.textContent = keys; what.textContent = does;
      list.append(term, what); }
    const close = document.createElement('button');
    close.type = 'button'; close.textContent = 'Close'; close.autofocus = true;
    close.addEventListener('click', () => dialog.close());
    dialog.addEventListener('click', event => { if (event.target === dialog) dialog.close(); });
    dialog.append(title, list, close);
    document.body.append(dialog);
    return dialog; }

  addEventListener('keydown', event => {
    if (event.key !== '?' || event.ctrlKey || event.metaKey) return;
    if (event.composedPath()[0].closest?.('input, textarea, select, [contenteditable]')) return;
    const dialog = document.querySelector('dialog.plastiscope-keys') || build();
    const look = getComputedStyle(document.querySelector('.stApp'));   // the page's theme, which may have changed
    Object.assign(dialog.style, { color: look.color, background: look.backgroundColor, fontFamily: look.fontFamily });
    dialog.open ? dialog.close() : dialog.showModal();
    event.preventDefault();
  });
})();
