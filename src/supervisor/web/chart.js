/**
 * Small charts in SVG: a line without axes for a tile, and a plot with its peak and its span.
 */
import { byId, el } from './dom.js';
import { clockText } from './format.js';

const NAMESPACE = 'http://www.w3.org/2000/svg';
const WIDTH = 1000;
const HEIGHT = 100;

function svg(tag, attributes) {
  const element = document.createElementNS(NAMESPACE, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/**
 * Points as the text of paths; a value that is not known interrupts the line.
 * @param {readonly (number | null)[]} values
 * @param {readonly number[]} times milliseconds, ascending
 * @param {number} max
 */
function paths(values, times, max) {
  const first = times[0];
  const length = Math.max(1, times.at(-1) - first);
  const runs = [];
  let run = [];
  for (const [index, value] of values.entries()) {
    if (value === null) {
      if (run.length > 0) runs.push(run);
      run = [];
      continue;
    }
    const x = ((times[index] - first) / length) * WIDTH;
    const y = HEIGHT - (value / max) * (HEIGHT - 4) - 2;
    run.push([x.toFixed(1), y.toFixed(1)]);
  }
  if (run.length > 0) runs.push(run);
  const line = runs.map((points) => `M${points.map(([x, y]) => `${x} ${y}`).join('L')}`).join('');
  const area = runs
    .map((points) => {
      const [start] = points[0];
      const [end] = points.at(-1);
      return `M${start} ${HEIGHT}L${points.map(([x, y]) => `${x} ${y}`).join('L')}L${end} ${HEIGHT}Z`;
    })
    .join('');
  return { line, area };
}

/** The next of 1, 2, 5, 10, 20, … */
function roundUp(value) {
  if (value <= 1) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 2, 5, 10].find((step) => step * power >= value);
}

function highest(values) {
  return values.reduce((top, value) => Math.max(top, value ?? 0), 0);
}

/**
 * A line that only shows which way things go; its tile says the number.
 * @returns {{element: Element, show: (values: readonly (number | null)[], times: readonly number[]) => void}}
 */
export function sparkline() {
  const area = svg('path', { class: 'area' });
  const line = svg('path', { class: 'curve' });
  const element = svg('svg', {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    preserveAspectRatio: 'none',
    'aria-hidden': 'true',
    class: 'series-0',
  });
  element.append(area, line);
  return {
    element,
    show(values, times) {
      if (values.length < 2) return;
      const drawn = paths(values, times, Math.max(1, highest(values)));
      line.setAttribute('d', drawn.line);
      area.setAttribute('d', drawn.area);
    },
  };
}

/**
 * A plot of one or two series.
 * @param {string} id of the figure, with an empty `.legend` and `.plot`
 * @param {readonly {label: string, text: (value: number) => string}[]} series
 * @param {string} what for screen readers
 */
export function plot(id, series, what) {
  const figure = byId(id);
  const image = svg('svg', {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    preserveAspectRatio: 'none',
    role: 'img',
  });
  for (const y of [2, HEIGHT / 2, HEIGHT]) {
    image.append(svg('line', { class: 'rule', x1: 0, x2: WIDTH, y1: y, y2: y }));
  }
  const curves = series.map((_, index) => {
    const group = svg('g', { class: `series-${index}` });
    const area = svg('path', { class: 'area' });
    const line = svg('path', { class: 'curve' });
    group.append(area, line);
    image.append(group);
    return { area, line };
  });
  const legend = figure.querySelector('.legend');
  const numbers = series.map(({ label }, index) => {
    const number = el('b', {}, '–');
    legend.append(
      el('li', { class: `series-${index}` }, el('span', { class: 'swatch' }), `${label} `, number),
    );
    return number;
  });
  const peak = el('span', { class: 'peak' });
  const from = el('span');
  const to = el('span');
  const axis = el('div', { class: 'axis' }, from, to);
  const waiting = el('p', { class: 'empty quiet' }, 'Gathering…');
  const place = figure.querySelector('.plot');
  place.append(waiting);

  /** @param {readonly (readonly (number | null)[])[]} values per series @param {readonly string[]} instants */
  return (values, instants) => {
    if (instants.length < 2) return;
    if (waiting.isConnected) place.replaceChildren(image, peak, axis);
    const times = instants.map((instant) => Date.parse(instant));
    const top = Math.max(...values.map(highest));
    const max = roundUp(top);
    for (const [index, { line, area }] of curves.entries()) {
      const drawn = paths(values[index], times, max);
      line.setAttribute('d', drawn.line);
      area.setAttribute('d', drawn.area);
      const last = values[index].at(-1);
      numbers[index].textContent = last === null ? '–' : series[index].text(last);
    }
    peak.textContent = series[0].text(max);
    from.textContent = clockText(instants[0]);
    to.textContent = clockText(instants.at(-1));
    const now = series.map(({ label }, i) => `${label} ${numbers[i].textContent}`).join(', ');
    image.setAttribute(
      'aria-label',
      `${what} from ${from.textContent} to ${to.textContent}: now ${now}; highest ${series[0].text(top)}`,
    );
  };
}
