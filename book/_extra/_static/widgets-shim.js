// Three things that widgets need on a page of this theme, before html-manager's embed.js is loaded.
(function () {
  "use strict";

  // The theme's FontAwesome turns every icon that appears later into SVG, and so breaks the Play widget's buttons.
  window.FontAwesomeConfig = Object.assign({}, window.FontAwesomeConfig, { observeMutations: false });

  // html-manager speaks MathJax 2 (MathJax.Hub.Queue(["Typeset", Hub, element])), the page has MathJax 3.
  var last = Promise.resolve();
  function queue(entry) {
    var element = entry && entry[2];
    var ready = window.MathJax.startup && window.MathJax.startup.promise;
    if (!element || !ready) return;
    last = last
      .then(function () { return ready; })
      .then(function () { return window.MathJax.typesetPromise([element]); })
      .catch(function (error) { console.error("MathJax: " + error.message); });
  }
  // "load" comes after deferred MathJax, and this listener before embed.js's own.
  window.addEventListener("load", function () {
    window.MathJax = window.MathJax || {};
    window.MathJax.Hub = { Queue: queue };
  });

  // Sliders, buttons and players come without a name for those who listen to the page.
  var count = 0;
  function identify(element) {
    if (!element.id) element.id = "widget-part-" + ++count;
    return element.id;
  }
  function give_names() {
    document.querySelectorAll(".widget-slider .noUi-handle:not([aria-labelledby])").forEach(function (handle) {
      var box = handle.closest(".widget-slider");
      var label = box.querySelector(".widget-label"), readout = box.querySelector(".widget-readout");
      if (!label || !readout) return;
      readout.setAttribute("aria-live", "polite");
      handle.setAttribute("aria-labelledby", identify(label) + " " + identify(readout));
    });
    document.querySelectorAll(".widget-toggle-buttons:not([role])").forEach(function (group) {
      var label = group.querySelector(".widget-label");
      group.setAttribute("role", "group");
      if (label) group.setAttribute("aria-labelledby", identify(label));
    });
    document.querySelectorAll(".widget-play button:not([aria-label])").forEach(function (button, index) {
      button.setAttribute("aria-label", ["play or pause", "stop", "repeat"][index % 3]);
    });
  }
  window.addEventListener("load", function () {
    new MutationObserver(give_names).observe(document.body, { childList: true, subtree: true });
    give_names();
  });
})();
