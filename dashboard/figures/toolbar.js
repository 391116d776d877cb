// The tools of a Plotly figure are one stop for Tab, as a toolbar's are; arrow keys go from tool to tool.
function oneStop(root) {
  const toolsOf = tool => [...tool.closest('.modebar').querySelectorAll('.modebar-btn')];
  root.addEventListener('focusin', e => {              // Plotly makes the tools anew now and then: they are set when one is reached
    const tool = e.target.closest('.modebar-btn');
    if (tool) toolsOf(tool).forEach(other => { other.tabIndex = other === tool ? 0 : -1; }); });
  root.addEventListener('keydown', e => {
    const tool = e.target.closest('.modebar-btn'), by = { ArrowRight: 1, ArrowLeft: -1 }[e.key];
    if (!tool || !by) return;
    const tools = toolsOf(tool);
    tools.at((tools.indexOf(tool) + by) % tools.length).focus();
    e.preventDefault(); e.stopPropagation(); }); }

// A figure says itself in one sentence: its name. The words drawn in it would be read one by one.
function quiet(root) { root.querySelectorAll('.main-svg').forEach(svg => svg.setAttribute('aria-hidden', 'true')); }
