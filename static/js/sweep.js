// The curves of all runs of a round in one picture, one figure at a time.
"use strict";

(() => {
  const holder = document.getElementById("sweep");
  if (!holder) return;
  const place = holder.querySelector(".sweep-plot");
  const select = document.getElementById("sweep-figure");
  const HEIGHT = 240;
  const EVERY = 4000;
  const COLOURS = 5;
  let runs = [];
  let plot = null;

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // Runs have different steps: each line keeps its own, with gaps bridged.
  function joined(figure) {
    const steps = [...new Set(runs.flatMap((run) => run.steps))].sort((one, other) => one - other);
    const lines = runs.map((run) => {
      const known = new Map(run.steps.map((step, index) => [step, run.series[figure][index]]));
      return steps.map((step) => known.get(step) ?? undefined);
    });
    return [steps, ...lines];
  }

  function options(width) {
    const axis = {
      stroke: colour("--ink-faint"),
      grid: { stroke: colour("--line"), width: 1 },
      ticks: { show: false },
      font: "11px system-ui, sans-serif",
    };
    const isShare = select.value === "rewards/accuracies";
    return {
      width,
      height: HEIGHT,
      padding: [8, 8, 0, 0],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false } },
      scales: { x: { time: false }, y: isShare ? { range: [0, 1] } : {} },
      axes: [{ ...axis, size: 24 }, { ...axis, size: 54 }],
      series: [
        { label: "step" },
        ...runs.map((run) => ({
          label: `Run ${run.number}`,
          stroke: colour(`--series-${(run.place % COLOURS) + 1}`),
          width: 1.75,
          dash: run.place >= COLOURS ? [6, 4] : [],
          spanGaps: true,
          points: { show: run.steps.length < 3, size: 5 },
        })),
      ],
    };
  }

  function draw() {
    if (plot) plot.destroy();
    plot = null;
    if (!runs.some((run) => run.steps.length)) {
      place.textContent = "The curves begin with the first optimiser step.";
      return;
    }
    place.textContent = "";
    plot = new uPlot(options(place.clientWidth), joined(select.value), place);
  }

  async function ask() {
    let active = true; // after a failed request too: try again
    try {
      const response = await fetch(holder.dataset.url, { headers: { Accept: "application/json" } });
      active = response.ok && !response.redirected;
      if (active) {
        const answer = await response.json();
        runs = answer.runs;
        active = answer.active;
        draw();
      }
    } catch {
      // The page says that the server does not answer.
    }
    if (active) setTimeout(ask, EVERY);
  }

  select.addEventListener("change", draw);
  new ResizeObserver(() => {
    if (plot && Math.abs(plot.width - place.clientWidth) > 1) plot.setSize({ width: place.clientWidth, height: HEIGHT });
  }).observe(place);
  document.addEventListener("studio:theme", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  ask();
})();
