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
  // One that is higher still is cut between its panels, or the lanes of one, and its foot (axis, legend) told with each.
  const between = (plot) => {
    const here = plot.getBoundingClientRect(), zoom = here.height / plot.offsetHeight;
    const labels = all(".annotation", plot).map((one) => (one.getBoundingClientRect().top - here.top) / zoom);
    const panels = Object.values(plot._fullLayout).filter((one) => /^y\d*$/.test(one?._id));
    panels.sort((one, other) => one._offset - other._offset);
    return panels.flatMap((panel, at) => {
      const lanes = panel.tickvals ?? [], end = panel._offset + panel._length, next = panels[at + 1]?._offset;
      const cuts = lanes.slice(1).filter((lane, nth) => lane - lanes[nth] === 1)
        .map((lane) => panel._offset + panel.d2p(lane - .5));
      return next ? [...cuts, Math.min((end + next) / 2, ...labels.filter((top) => top > end && top < next))] : cuts;
    });
  };
  const part = (plot, from, to) => {
    const box = document.createElement("div"), copy = plot.cloneNode(true);
    box.className = "part";
    box.style.height = `${to - from}px`;
    copy.removeAttribute("id");
    copy.style.marginTop = `${-from}px`;
    box.append(copy);
    return box;
  };
  const cut = (plot) => {
    const ends = Object.values(plot._fullLayout).filter((one) => /^y\d*$/.test(one?._id));
    const foot = Math.max(...ends.map((one) => one._offset + one._length)), height = plot.offsetHeight;
    const count = Math.ceil(foot / (high / usual - height + foot)), cuts = between(plot);
    const nearest = (to) => cuts.reduce((best, one) => Math.abs(one - to) < Math.abs(best - to) ? one : best);
    if (count < 2 || cuts.length < count) return;
    const places = [...Array(count - 1).keys()].map((nth) => nearest((nth + 1) * foot / count));
    const first = plot.parentElement;
    places.forEach((from, nth) => {
      const sheet = document.createElement("div"), feet = part(plot, foot, height);
      sheet.className = "sheet";
      all(".yaxislayer-above", feet).forEach((one) => one.remove());
      first.parentElement.append(feet, sheet);
      sheet.append(part(plot, from, places[nth + 1] ?? height));
    });
    first.dataset.height = first.style.height;
    first.style.height = `${places[0]}px`;
    plot.closest("figure").classList.add("cut");
  };
  const mend = (figure) => {
    all(".part, .sheet", figure).forEach((one) => one.remove());
    all("[data-height]", figure).forEach((one) => { one.style.height = one.dataset.height; delete one.dataset.height; });
    figure.classList.remove("cut");
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
      if (by < usual && by >= least) scale(plot, by);
      if (by < least) cut(plot);
    });
  });
  addEventListener("afterprint", () => {
    document.body.classList.remove("paper");
    all("figure.cut").forEach(mend);
    plots().forEach((plot) => Plotly.relayout(plot, { autosize: true, width: null }));
    opened.forEach((one) => { one.open = false; });
    lay();
  });
}
