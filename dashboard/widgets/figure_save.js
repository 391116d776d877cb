// The figure is elsewhere on the page, in the panel with this key, and may be drawn anew: it is looked up when it is saved.
export default function ({ data, parentElement }) {
  const group = parentElement.querySelector('.figure-save');
  const figure = () => document.querySelector(`.st-key-panel-${CSS.escape(data.replace(/[^\w-]/g, '-'))} .liveplot`);
  if (!figure()) { group.remove(); return; }
  if (group.childElementCount) return;
  for (const [kind, label, say] of [['svg', 'SVG', 'Save as SVG'], ['png', 'PNG', 'Save as PNG'],
                                    ['csv', 'CSV', 'Save the drawn numbers as CSV']]) {
    const button = document.createElement('button');
    button.type = 'button'; button.textContent = label; button.title = say; button.setAttribute('aria-label', say);
    button.onclick = () => figure()?.save?.[kind]();
    group.append(button); }
}
