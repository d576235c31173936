// Left, Right, Home and End choose a tab, as the ARIA pattern of tabs has it; gradio has no keys of its own for them.
addEventListener('keydown', event => {
  const tab = event.target.closest?.('[role=tab]');
  if (!tab || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  const tabs = [...tab.closest('[role=tablist]').querySelectorAll('[role=tab]')];
  const at = tabs.indexOf(tab), next = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: -1 }[event.key];
  if (next === undefined) return;
  event.preventDefault();
  const chosen = tabs.at(next % tabs.length);
  chosen.focus();
  chosen.click();
});
