// Two things that widgets need on a page of this theme, before html-manager's embed.js is loaded.
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
})();
