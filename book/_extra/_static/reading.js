// What a reader with a keyboard or a screen reader needs, and the page's other scripts leave out.
(function () {
  "use strict";

  // Folded code and solutions: the theme names every switch "Toggle hidden content".
  function name_switches() {
    document.querySelectorAll("details.hide > summary[aria-label]").forEach(function (summary) {
      summary.removeAttribute("aria-label"); // its text says more
    });
    document.querySelectorAll("button.toggle-button").forEach(function (button) {
      var title = button.closest(".admonition-title");
      button.setAttribute("aria-label", title.textContent.trim().replace(/\s+/g, " "));
      // A link in a title would reach togglebutton's handler, which then looks for a button in vain and fails.
      title.querySelectorAll("a").forEach(function (link) {
        link.addEventListener("click", function (event) { event.stopPropagation(); });
      });
    });
  }

  // What scrolls sideways must be reachable: the keyboard scrolls only what has the focus.
  var SCROLLS = "main pre, main table, main mjx-container[display='true'], main .pst-scrollable-table-container, main .text_html > div";
  function make_reachable() {
    document.querySelectorAll(SCROLLS).forEach(function (element) {
      if (element.scrollWidth > element.clientWidth + 1) element.tabIndex = 0;
    });
  }

  // The frames of an explorer are files. They are wanted as soon as somebody turns to one.
  function fetch_frames(event) {
    if (!event.target.closest || !event.target.closest(".jupyter-widgets")) return;
    document.removeEventListener("focusin", fetch_frames);
    document.removeEventListener("pointerover", fetch_frames);
    document.querySelectorAll('script[type="application/vnd.jupyter.widget-state+json"]').forEach(function (state) {
      new Set(state.textContent.match(/[\w./]*\bframe-\w+\.png/g)).forEach(function (address) {
        new Image().src = address;
      });
    });
  }

  // A file may not fetch another one: search then finds its pages, but has no words of them to show.
  if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;

  document.addEventListener("DOMContentLoaded", name_switches);
  document.addEventListener("focusin", fetch_frames);
  document.addEventListener("pointerover", fetch_frames);
  window.addEventListener("resize", make_reachable);
  window.addEventListener("load", function () {
    make_reachable();
    if (window.MathJax && window.MathJax.startup) window.MathJax.startup.promise.then(make_reachable);
  });
})();
