// What is wrong with the figures and the text of a page, as it stands in the browser: an expression whose value has
// functions, each returning sentences; none: all is well. Read by drawn.py.
(() => {
  const least = { px: 12, contrast: 4 };
  const box = (node) => node.getBoundingClientRect();
  const meets = (a, b) => a.left <= b.right && b.left <= a.right && a.top <= b.bottom && b.top <= a.bottom;
  const seen = (node) => node.checkVisibility({ opacityProperty: true, visibilityProperty: true });
  const short = (text) => JSON.stringify(text.replace(/\s+/g, " ").trim().slice(0, 40));

  // figures

  const painted = (node) => {
    const style = getComputedStyle(node), { width, height } = box(node);
    const filled = style.fill !== "none" && Number(style.fillOpacity) > 0 && width > 0 && height > 0;
    const stroked = style.stroke !== "none" && Number(style.strokeOpacity) > 0 && parseFloat(style.strokeWidth) > 0;
    return seen(node) && (width > 0 || height > 0) && (filled || stroked || node.tagName === "image");
  };

  const axes = (gd, trace) =>
    ["x", "y"].map((letter) => gd._fullLayout[(trace[`${letter}axis`] || letter).replace(letter, `${letter}axis`)]);

  const area = (gd, trace) => {
    const { left, top } = box(gd.querySelector(".main-svg")), [x, y] = axes(gd, trace);
    return { left: left + x._offset, right: left + x._offset + x._length, top: top + y._offset,
      bottom: top + y._offset + y._length };
  };

  const finite = Number.isFinite;
  const points = (gd, trace, cd) => {
    if (trace.type === "box") return cd.filter((one) => finite(one.med)).length;
    if (trace.type === "bar") {
      const along = axes(gd, trace)[trace.orientation === "h" ? 0 : 1];
      const long = ({ b, s }) => Math.abs(along.c2p(b + s) - along.c2p(b)) >= 0.5; // shorter: nothing to see
      return cd.filter((one) => finite(one.p) && finite(one.s) && one.s !== 0 && long(one)).length;
    }
    if (trace.type === "heatmap") return (cd[0].z || []).flat().filter(finite).length;
    return cd.filter((one) => finite(one.x) && finite(one.y)).length;
  };

  // In how many different places the points of a trace lie: plotly takes what is less than a pixel apart as one.
  const spots = (gd, trace, cd) => {
    const [x, y] = axes(gd, trace), pixel = (one) => [x.c2p(one.x), y.c2p(one.y)].map((px) => Math.round(px / 3)).join(" ");
    return new Set(cd.filter((one) => finite(one.x) && finite(one.y)).map(pixel)).size;
  };

  // What must be there of a trace with so many points: selector and how many, 1 for "any number of".
  const wanted = (gd, trace, cd, count) => {
    if (trace.type === "bar") return [[".points .point > path", count]];
    if (trace.type === "heatmap") return [["image", 1]];
    if (trace.type !== "scatter") return [["path, image, rect, circle, text", 1]];
    const has = (part) => (trace.mode || "").includes(part), made = [];
    const places = spots(gd, trace, cd); // two points in one place make no line
    if (has("lines") && places > 1 && count > 1 && trace.line.width > 0) made.push([".js-line", 1]);
    if (trace.fill && trace.fill !== "none" && places > 2) made.push([".js-fill", 1]);
    if (has("markers")) made.push([".points .point", trace.marker.maxdisplayed || count]);
    if (has("text")) made.push([".text text", 1]);
    return made;
  };

  const traceOf = (node) => [node.__data__, node.__data__?.[0]].map((one) => one?.trace).find(Boolean);

  const wrongTrace = (gd, trace, cd) => {
    const count = points(gd, trace, cd), name = `trace ${trace.index} (${trace.type} ${short(trace.name || "")})`;
    if (!count) return [];
    const nodes = [...gd.querySelectorAll(".cartesianlayer .trace, .cartesianlayer .hm, .cartesianlayer .contour")];
    const mine = nodes.filter((node) => traceOf(node)?.index === trace.index);
    const marks = (selector) => mine.flatMap((node) => [...node.querySelectorAll(selector)]).filter(painted);
    return wanted(gd, trace, cd, count).flatMap(([selector, number]) => {
      const drawn = marks(selector);
      if (drawn.length < number) return [`${name} has ${drawn.length} of ${number} ${selector}`];
      return drawn.some((node) => meets(box(node), area(gd, trace))) ? [] : [`${name} is outside of its axes`];
    });
  };

  const wrongText = (gd, svg) => {
    const texts = [...gd.querySelectorAll(".main-svg text")].filter((node) => node.textContent.trim() && seen(node));
    const frame = box(svg), found = [];
    const boxes = texts.map((node) => [node, box(node)]);
    for (const [node, { left, right, top, bottom }] of boxes) {
      if (left < frame.left - 1 || right > frame.right + 1 || top < frame.top - 1 || bottom > frame.bottom + 1)
        found.push(`${short(node.textContent)} is cut off`);
      const sizes = [node, ...node.querySelectorAll("tspan")].map((one) => parseFloat(getComputedStyle(one).fontSize));
      if (Math.min(...sizes) < least.px) found.push(`${short(node.textContent)} is ${Math.min(...sizes)} px`);
      if (contrast(rgba(getComputedStyle(node).fill), behind(gd)) < least.contrast && !node.closest(".bartext, .points"))
        found.push(`${short(node.textContent)} is pale`);
    }
    const lines = texts.flatMap((node) => {
      const parts = [...node.querySelectorAll(".line")];
      return (parts.length ? parts : [node]).map((line) => [line, box(line)]);
    });
    lines.forEach(([node, a], number) => lines.slice(number + 1).forEach(([other, b]) => {
      const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (wide > 1.5 && high > 3) found.push(`${short(node.textContent)} lies over ${short(other.textContent)}`);
    }));
    return found;
  };

  const wrongPlot = (gd, read) => {
    const svg = gd.querySelector(".main-svg");
    if (!gd._fullData || !svg) return ["is not drawn"];
    const found = [], frame = box(svg), layout = gd._fullLayout;
    if (!(frame.width > 0 && frame.height > 0)) found.push("has no size");
    if (frame.left < -1 || frame.right > innerWidth + 1)
      found.push(`reaches from ${frame.left} to ${frame.right} px in a page of ${innerWidth} px`);
    const traces = gd._fullData.filter((trace) => trace.visible === true);
    const filled = traces.filter((trace) => points(gd, trace, gd.calcdata[trace.index]));
    if (!filled.length) return [...found, `is empty: ${short(layout.title?.text || "")}`];
    for (const trace of filled) found.push(...wrongTrace(gd, trace, gd.calcdata[trace.index]));
    const count = (name, selector) => {
      const there = (layout[name] || []).filter((one) => one.visible).length;
      const drawn = [...gd.querySelectorAll(selector)].filter(seen).length;
      if (drawn < there) found.push(`has ${drawn} of ${there} ${name}`);
    };
    count("shapes", ".shapelayer path");
    count("annotations", ".annotation");
    return read ? [...found, ...wrongText(gd, svg)] : found;
  };

  // text

  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = ([r, g, b, a], under) => [r, g, b].map((one, at) => one * a + under[at] * (1 - a));

  const behind = (node) => {
    const layers = [];
    for (let one = node; one; one = one.parentElement) {
      const color = rgba(getComputedStyle(one).backgroundColor);
      layers.unshift(color);
      if (color[3] === 1) break;
    }
    return layers.reduce((under, color) => over(color, under), [255, 255, 255]);
  };

  const light = (color) => {
    const [r, g, b] = color.map((one) => one / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (color, ground) => {
    const [low, high] = [light(over(color, ground)), light(ground)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };

  const faded = (node) => {
    let opacity = 1;
    for (let one = node; one; one = one.parentElement) opacity *= Number(getComputedStyle(one).opacity);
    return opacity;
  };

  // Beyond the window or what cuts it off, in nothing that can be moved.
  const hidden = (node) => {
    const range = document.createRange();
    range.selectNodeContents(node);
    const { left, right } = box(range), beyond = (from, to) => left < from - 1 || right > to + 1;
    for (let one = node.parentElement; one !== document.body; one = one.parentElement) {
      const how = getComputedStyle(one).overflowX;
      if (["auto", "scroll"].includes(how)) return false;
      if (how !== "visible" && beyond(box(one).left, box(one).right)) return true;
    }
    return beyond(0, innerWidth);
  };

  // Numbers at a line's end whose unit, or what belongs to them, begins the next: "4.1 s", "50 %", "n = 9", "-4.9 [-7.9,".
  const belongs = /\d\s+(?=(?:%|ms|s|min|h|d|days?|years|points|\/ s)(?![\w-]))|\bn\s+=\s+(?=\d)|\d\s+(?=\[-?[\d.])|\d,\s+(?=-?[\d.]+\])/g;
  const ends = (node, at) => {
    const range = document.createRange();
    range.setStart(node, at);
    range.setEnd(node, at + 1);
    return range.getClientRects()[0];
  };
  const parted = (node) => [...node.data.matchAll(belongs)].flatMap((one) => {
    const before = ends(node, one.index), after = ends(node, one.index + one[0].length);
    return before && after && after.top > before.bottom - 2
      ? [`${short(node.data.slice(Math.max(one.index - 12, 0)))} is parted at a line's end`] : [];
  });

  const wrongWord = (node) => {
    const parent = node.parentElement, style = getComputedStyle(parent), text = short(node.data);
    const size = parseFloat(style.fontSize), [r, g, b, a] = rgba(style.color);
    const ratio = contrast([r, g, b, a * faded(parent)], behind(parent));
    const found = size < least.px ? [`${text} is ${size} px`] : [];
    if (!parent.closest("code, pre")) found.push(...parted(node));
    if (hidden(node)) found.push(`${text} is cut off`);
    return ratio < least.contrast ? [...found, `${text} has a contrast of ${ratio.toFixed(1)}`] : found;
  };

  // what does not belong

  const foreign = (node) => {
    const tag = node.tagName.toUpperCase(), found = [];
    if (["IMG", "IFRAME", "FRAME", "OBJECT", "EMBED", "BASE", "FORM", "INPUT", "VIDEO", "AUDIO"].includes(tag)) found.push(tag);
    if (tag === "SCRIPT" && !/plotly/i.test(node.textContent.slice(0, 4000))) found.push(`SCRIPT ${short(node.textContent)}`);
    if (tag === "META" && node.httpEquiv) found.push("META");
    for (const { name, value } of node.attributes) {
      if (name.startsWith("on")) found.push(`${tag} ${name}`);
      if (["href", "xlink:href", "src", "action"].includes(name) && !/^(#|data:)/.test(value)) found.push(`${tag} ${short(value)}`);
    }
    return found;
  };

  return {
    // Elements and attributes that load, lead elsewhere or run, beyond plotly's scripts and links within the page.
    foreign: () => [...document.querySelectorAll("*")].flatMap(foreign),
    // Everything a reader gets: text, labels, what is one click away.
    said: () => {
      const nodes = [...document.querySelectorAll("body *")].filter((node) => !node.closest("script, style"));
      const own = (node) => [...node.childNodes].filter((one) => one.nodeType === 3).map((one) => one.data).join("");
      const labels = (node) => ["aria-label", "title", "alt"].map((name) => node.getAttribute(name) || "").join(" ");
      return [document.title, ...nodes.map((node) => `${own(node)} ${labels(node)}`)].join(" ");
    },
    // One sentence for each thing a figure lacks; `count`: how many figures there must be at least; `read`: text, too.
    figures: (count, read) => {
      const plots = [...document.querySelectorAll(".js-plotly-plot")];
      const named = plots.flatMap((gd) => wrongPlot(gd, read).map((wrong) => `${gd.id} ${wrong}`));
      const asked = [...document.querySelectorAll(".plotly-graph-div")].filter(seen).length; // not those that are folded
      const less = plots.length < Math.max(count, asked) ? [`${plots.length} of ${Math.max(count, asked)} figures`] : [];
      return [...less, ...named];
    },
    // Numbers that a line's end parts from their units.
    parted: () => {
      const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
      for (let node = walker.nextNode(); node; node = walker.nextNode())
        if (!node.parentElement.closest("script, style, svg, code, pre") && seen(node.parentElement)) found.push(...parted(node));
      return found;
    },
    // Text too small or too pale to read, and a page that must be moved sideways.
    words: () => {
      const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
      for (let node = walker.nextNode(); node; node = walker.nextNode()) {
        const parent = node.parentElement;
        if (node.data.trim() && !parent.closest("script, style, svg") && seen(parent)) found.push(...wrongWord(node));
      }
      const width = document.scrollingElement.scrollWidth;
      return width > innerWidth + 1 ? [`the page is ${width} px wide in a window of ${innerWidth} px`, ...found] : found;
    },
  };
})()
