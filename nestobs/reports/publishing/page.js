{ // Sections unfold by their links, and on paper; what plotly draws is drawn once it can be seen, as wide as it then is.
  const all = (what, from = document) => [...from.querySelectorAll(what)];
  const folded = "details:not([open])";

  // A figure has room for its legend on the narrowest screen. Where the legend takes fewer lines, it gets less of it.
  const parts = ".legend .bg, .xaxislayer-above, .g-xtitle, .infolayer .annotation";
  const fit = (plot) => {
    const { height, margin, sliders } = plot.layout;
    if (plot.closest(folded) || sliders || !height || !margin) return;
    if (!plot.closest("figure").querySelector("figcaption")) return;
    const bottoms = all(parts, plot).map((part) => part.getBoundingClientRect().bottom);
    const spare = Math.floor(height - 10 - Math.max(...bottoms) + plot.getBoundingClientRect().top);
    if (!Number.isFinite(spare) || Math.abs(spare) < 4 || margin.b - spare < 10) return;
    plot.style.height = plot.parentElement.style.height = `${height - spare}px`;
    Plotly.relayout(plot, { height: height - spare, "margin.b": margin.b - spare });
  };

  // A table that is wider than its place becomes a list: a row below the other, each cell beside its column's name. On
  // paper, which is given its width here, its words are wrapped first.
  const lay = (from = document, width = "") => all(".nestobs-table", from).forEach((place) => {
    if (place.closest(folded)) return;
    const wide = () => place.scrollWidth > place.clientWidth + 1;
    place.classList.remove("listed", "tight");
    place.style.maxWidth = width;
    if (width && wide()) place.classList.add("tight");
    const heads = wide() ? all("thead th", place).map((one) => one.textContent) : [];
    place.style.maxWidth = "";
    if (heads.length < 2) return;
    all("tbody tr", place).forEach((row) => all("td", row).forEach((cell, at) => { cell.dataset.head = heads[at] ?? ""; }));
    place.classList.add("listed");
  });

  const draw = (from) => all(".plotly-graph-div", from).forEach((plot) => {
    if (plot.closest(folded) || !window.plotlyFigures?.[plot.id]) return;
    if (plot.matches(".js-plotly-plot")) return Plotly.Plots.resize(plot);
    const { data, layout, config } = plotlyFigures[plot.id];
    Plotly.newPlot(plot, data, layout, config);
    plot.on("plotly_afterplot", () => fit(plot));
    fit(plot);
  });

  const unfold = () => {
    let target = null;
    try { target = document.getElementById(decodeURIComponent(location.hash.slice(1))); } catch { return; }
    for (let one = target; one; one = one.parentElement) if (one.tagName === "DETAILS") one.open = true;
    if (target) { draw(target); lay(); }
    target?.scrollIntoView();
  };

  addEventListener("DOMContentLoaded", () => {
    if (matchMedia("print").matches) all("details.section").forEach((one) => { one.open = true; });
    draw(document);
    lay();
    unfold();
    document.addEventListener("toggle", ({ target }) => { if (target.open) { draw(target); lay(target); } }, true);
    addEventListener("resize", () => lay());
    document.addEventListener("click", ({ target }) => target.closest("a[href^='#']") && setTimeout(unfold));
    const switched = document.querySelector("nav.contents button");
    switched?.addEventListener("click", () => {
      const sections = all("details.section"), open = sections.some((one) => !one.open);
      sections.forEach((one) => { one.open = open; });
      switched.textContent = open ? "fold all" : "unfold all";
    });
  });
  addEventListener("hashchange", unfold);

  // Paper shows all sections. It is narrower than a screen, and no figure is told: all are drawn anew, as wide as A4 and
  // Letter have room for, and at a scale at which heading and figure stand on one sheet.
  const wide = 680, high = 690, usual = .85, least = .55;
  let opened = [];
  const plots = () => all(".js-plotly-plot").filter((plot) => !plot.closest(folded));
  const scale = (plot, by) => {
    plot.parentElement.parentElement.style.setProperty("--paper-scale", by);
    Plotly.relayout(plot, { autosize: false, width: Math.round(wide / by) });
  };
  addEventListener("beforeprint", () => {
    opened = all("details.section:not([open])");
    opened.forEach((one) => { one.open = true; });
    document.body.classList.add("paper");
    draw(document);
    lay(document, `${wide}px`);
    plots().forEach((plot) => scale(plot, usual));
    plots().forEach((plot) => {
      const by = high / plot.offsetHeight;
      if (by < usual && by >= least) scale(plot, by);  // a higher one is cut at any scale
    });
  });
  addEventListener("afterprint", () => {
    document.body.classList.remove("paper");
    plots().forEach((plot) => Plotly.relayout(plot, { autosize: true, width: null }));
    opened.forEach((one) => { one.open = false; });
    lay();
  });
}
