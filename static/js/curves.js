// Live curves of a run: small charts, fed with the steps that are new since the last question.
"use strict";

(() => {
  const holder = document.getElementById("curves");
  if (!holder) return;
  const figures = [...holder.querySelectorAll(".curve")];
  const state = { after: -1, attempt: "", steps: [], values: {}, notFinite: new Set() };
  const charts = new Map();
  const HEIGHT = 150;
  const EVERY = 2000;
  const SHARES = ["rewards/accuracies", "mean_token_accuracy"];

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const seriesOf = (figure) => figure.dataset.series.split(" ");
  const isEvaluation = (name) => name.startsWith("eval_");
  const labelOf = (name) => (isEvaluation(name) ? "held out" : name.split("/")[1] || "batch");
  const hasValues = (name) => (state.values[name] || []).some((value) => value !== null);

  function readable(value) {
    if (value === null || value === undefined) return "–";
    const size = Math.abs(value);
    const text = size !== 0 && (size < 0.001 || size >= 100000) ? value.toExponential(1) : value.toPrecision(3);
    return String(size >= 100 && size < 100000 ? Math.round(value) : text).replace("-", "−");
  }

  function shortTick(value) {
    const text = Math.abs(value) >= 1000 ? `${value / 1000}k` : String(Number(value.toPrecision(4)));
    return text.replace("-", "−");
  }

  function showValues(figure, index) {
    const place = figure.querySelector(".curve-values");
    const names = seriesOf(figure).filter(hasValues);
    place.replaceChildren(...names.flatMap((name, position) => {
      const mark = document.createElement("span");
      mark.className = `curve-mark curve-mark-${position + 1}`;
      const text = document.createElement("span");
      const values = state.values[name];
      const at = index ?? values.findLastIndex((value) => value !== null);
      text.textContent = `${names.length > 1 ? `${labelOf(name)} ` : ""}${readable(values[at])}`;
      return [mark, text];
    }));
    if (seriesOf(figure).some((name) => state.notFinite.has(name))) {
      const broken = document.createElement("span");
      broken.className = "curve-broken";
      broken.textContent = "not a number";
      place.append(broken);
    }
    if (index !== null && index !== undefined) {
      const step = document.createElement("span");
      step.className = "muted";
      step.textContent = `step ${state.steps[index]}`;
      place.append(step);
    }
  }

  // Accuracy is a share; a flat line of anything else gets room around it instead of uPlot's 0 to 100.
  function rangeOf(figure) {
    if (seriesOf(figure).some((name) => SHARES.includes(name))) return [0, 1];
    return (plot, low, high) => {
      if (low === null) return [0, 1];
      return low === high ? [low - 1, high + 1] : uPlot.rangeNum(low, high, 0.1, true);
    };
  }

  function optionsOf(figure, width) {
    const axis = {
      stroke: colour("--ink-faint"),
      grid: { stroke: colour("--line"), width: 1 },
      ticks: { show: false },
      font: "11px system-ui, sans-serif",
    };
    const wholeSteps = (plot, splits) => splits.map((value) => (Number.isInteger(value) ? shortTick(value) : ""));
    const lines = seriesOf(figure).map((name, position) => ({
      label: name,
      stroke: colour(position ? "--series-2" : "--series-1"),
      width: 1.75,
      spanGaps: isEvaluation(name),
      points: { show: isEvaluation(name) || state.steps.length < 3, size: 5 },
    }));
    return {
      width,
      height: HEIGHT,
      padding: [8, 8, 0, 0],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, sync: { key: "run" } },
      scales: { x: { time: false }, y: { range: rangeOf(figure) } },
      axes: [
        { ...axis, size: 24, space: 46, values: wholeSteps },
        { ...axis, size: 46, space: 28, values: (plot, splits) => splits.map(shortTick) },
      ],
      series: [{ label: "step" }, ...lines],
      hooks: { setCursor: [(plot) => showValues(figure, plot.cursor.idx)] },
    };
  }

  function dataOf(figure) {
    return [state.steps, ...seriesOf(figure).map((name) => state.values[name] || [])];
  }

  function draw(figure) {
    figure.hidden = !seriesOf(figure).some(hasValues);
    if (figure.hidden) return;
    const place = figure.querySelector(".curve-plot");
    const few = state.steps.length < 3;
    const known = charts.get(figure);
    if (known && known.few === few) {
      known.plot.setData(dataOf(figure));
    } else {
      if (known) known.plot.destroy();
      charts.set(figure, { few, plot: new uPlot(optionsOf(figure, place.clientWidth), dataOf(figure), place) });
    }
    showValues(figure, null);
  }

  function drawAll() {
    figures.forEach(draw);
    document.getElementById("curves-empty").hidden = state.steps.length > 0;
  }

  function redrawAll() {
    charts.forEach(({ plot }) => plot.destroy());
    charts.clear();
    drawAll();
  }

  function append(answer) {
    if (answer.restart) Object.assign(state, { steps: [], values: {}, notFinite: new Set() });
    const before = state.steps.length;
    state.steps = state.steps.concat(answer.steps);
    Object.entries(answer.series).forEach(([name, values]) => {
      const known = state.values[name] || new Array(before).fill(null);
      state.values[name] = known.concat(values);
    });
    answer.not_finite.forEach((name) => state.notFinite.add(name));
    // Few and whole each time: an evaluation comes after its step, which may have been asked for already.
    Object.entries(answer.evaluations).forEach(([name, looks]) => {
      const known = new Map(looks);
      state.values[name] = state.steps.map((step) => known.get(step) ?? null);
    });
    const looked = Object.values(answer.evaluations).flat().length;
    answer.isNew = answer.steps.length > 0 || answer.restart || looked !== state.looked;
    state.looked = looked;
    state.after = state.steps.at(-1) ?? -1;
    state.attempt = answer.attempt;
  }

  async function ask() {
    const query = new URLSearchParams({ after: state.after });
    if (state.attempt !== "") query.set("attempt", state.attempt);
    let active = true; // after a failed request too: try again
    try {
      const response = await fetch(`${holder.dataset.url}?${query}`, { headers: { Accept: "application/json" } });
      if (response.ok && !response.redirected) {
        const answer = await response.json();
        append(answer);
        if (answer.isNew || !charts.size) drawAll();
        active = answer.active;
      } else {
        active = false;
      }
    } catch {
      // The page says that the server does not answer; the curves wait for it.
    }
    if (active) setTimeout(ask, EVERY);
  }

  let widths = 0;
  new ResizeObserver(() => {
    const width = holder.clientWidth;
    if (Math.abs(width - widths) < 2) return;
    widths = width;
    charts.forEach(({ plot }, figure) => plot.setSize({ width: figure.querySelector(".curve-plot").clientWidth, height: HEIGHT }));
  }).observe(holder);
  document.addEventListener("studio:theme", redrawAll);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawAll);
  ask();
})();
