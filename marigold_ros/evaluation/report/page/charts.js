// Line charts over a common cursor: hover, touch, or the arrow keys once a chart has the focus.
'use strict';

const SVG = 'http://www.w3.org/2000/svg';
const DASHES = ['', '7 4', '2 4', '9 3 2 3', '14 4', '9 3 2 3 2 3']; // with four colours 24 lines; five would make four

function shape(name, attributes, text) { return filled(document.createElementNS(SVG, name), attributes, text); }
function element(name, attributes = {}, text) { return filled(document.createElement(name), attributes, text); }

function filled(node, attributes, text) {
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

// Ctrl and plus enlarges the page, Alt and an arrow goes back.
function isOfBrowser(key) { return key.ctrlKey || key.altKey || key.metaKey; }

// The next of some factors times a power of ten.
function niceStep(raw, factors = [1, 2, 5, 10]) {
  const power = 10 ** Math.floor(Math.log10(raw));
  return factors.map((factor) => factor * power).find((step) => step >= raw * 0.999);
}

function figureOf(value, unit) {
  if (value === null || value === undefined) return '–';
  const digits = Math.abs(value) >= 1000 ? value.toFixed(0) : Number(value.toPrecision(3)).toString();
  return unit ? `${digits} ${unit}` : digits;
}

// Charts of one group move their cursors together.
class Cursor {
  constructor() { this.charts = []; }
  move(index) { for (const chart of this.charts) chart.point(index); }
}

class LineChart {
  constructor(figure, spec, cursor, choose) {
    Object.assign(this, { figure, spec, cursor, choose, index: null });
    this.count = Math.max(...spec.curves.map((curve) => curve.values.length));
    figure.append(this.legend());
    this.plot = shape('svg', { class: 'plot', role: 'img', tabindex: 0, focusable: 'true' });
    const keys = 'arrow keys read values' + (choose ? ', Enter shows the nearest image' : '');
    this.plot.setAttribute('aria-label', `${spec.title}, over ${spec.x_label}; ${keys}`);
    this.readout = element('output');
    figure.append(this.plot, this.readout);
    cursor.charts.push(this);
    this.plot.addEventListener('pointermove', (event) => cursor.move(this.indexAt(event)));
    this.plot.addEventListener('pointerdown', (event) => cursor.move(this.indexAt(event)));
    this.plot.addEventListener('pointerleave', () => {
      if (document.activeElement !== this.plot) cursor.move(null);
    });
    this.plot.addEventListener('blur', () => cursor.move(null));
    this.plot.addEventListener('keydown', (event) => { if (!isOfBrowser(event)) this.key(event); });
    if (choose) this.plot.addEventListener('dblclick', () => choose(this.index));
    new ResizeObserver(() => this.draw()).observe(figure);
  }

  legend() {
    const legend = element('div', { class: 'legend' });
    this.spec.curves.forEach((curve, i) => {
      if (!curve.name) return;
      const line = shape('svg', { viewBox: '0 0 30 10', 'aria-hidden': 'true' });
      line.append(shape('path', { d: 'M0 5H30', class: `curve ${this.kind(curve, i)}`, 'stroke-dasharray': this.dash(curve, i) }));
      const item = element('span');
      item.append(line, curve.name);
      legend.append(item);
    });
    return legend;
  }

  kind(curve, i) { return curve.reference ? 'kr' : `k${i % 4}`; }
  dash(curve, i) { return curve.reference ? '4 4' : DASHES[(i + Math.floor(i / 4)) % DASHES.length]; }

  scales() {
    const values = this.spec.curves.flatMap((curve) => curve.values).filter((value) => value !== null);
    let low = Math.min(...values), high = Math.max(...values);
    if (this.spec.zero) [low, high] = [Math.min(low, 0), Math.max(high, 0)];
    if (this.spec.top !== null && this.spec.top !== undefined) high = this.spec.top;
    if (high - low < 1e-9 * Math.max(1, Math.abs(high))) [low, high] = this.spec.zero ? [0, 1] : [low - 0.5, high + 0.5];
    const step = niceStep((high - low) / 5, [1, 2, 2.5, 5, 10]);
    this.low = Math.floor(low / step + 1e-6) * step;
    this.high = Math.ceil(high / step - 1e-6) * step;
    this.step = step;
    const x = this.spec.x;
    this.first = x ? Math.min(...x) : 0;
    this.last = x ? Math.max(...x) : Math.max(this.count - 1, 1);
  }

  draw() {
    this.width = Math.max(this.plot.getBoundingClientRect().width, 200);
    this.height = this.width < 480 ? 180 : 210;
    this.left = 52; this.right = this.spec.ticks ? 28 : 14;
    this.scales();
    const { plot, width, height } = this;
    plot.setAttribute('viewBox', `0 0 ${width} ${height}`);
    plot.setAttribute('height', height);
    plot.replaceChildren();
    let digits = Math.max(0, -Math.floor(Math.log10(this.step) + 1e-9));
    if (Math.abs(this.step * 10 ** digits - Math.round(this.step * 10 ** digits)) > 1e-6) digits += 1;
    for (let k = 0; k <= Math.round((this.high - this.low) / this.step); k++) {
      const value = this.low + k * this.step, y = this.y(value);
      plot.append(shape('line', { class: 'grid', x1: this.left, x2: width - this.right, y1: y, y2: y }));
      plot.append(shape('text', { x: this.left - 7, y: y + 4, 'text-anchor': 'end' }, value.toFixed(digits)));
    }
    for (const [index, text] of this.ticks()) {
      plot.append(shape('text', { x: this.x(index), y: height - 21, 'text-anchor': 'middle' }, text));
    }
    plot.append(shape('text', { x: (this.left + width - this.right) / 2, y: height - 4, 'text-anchor': 'middle' }, this.spec.x_label));
    this.spec.curves.forEach((curve, i) => {
      plot.append(shape('path', { d: this.path(curve.values), class: `curve ${this.kind(curve, i)}`, 'stroke-dasharray': this.dash(curve, i) }));
    });
    for (const [index, name] of this.spec.marks || []) this.mark(index, name);
    this.overlay = shape('g', {});
    plot.append(this.overlay);
    this.point(this.index);
  }

  // Where a bag ends and the next begins; its name where there is room.
  mark(index, name) {
    const x = this.x(index), marks = this.spec.marks.map(([place]) => place);
    const next = marks[marks.indexOf(index) + 1], end = next === undefined ? this.width - this.right : this.x(next);
    this.plot.append(shape('line', { class: 'mark', x1: x, x2: x, y1: 8, y2: this.height - 42 }));
    if (end - x > 7 * name.length + 8) this.plot.append(shape('text', { class: 'mark', x: x + 4, y: 18 }, name));
  }

  ticks() {
    if (this.spec.ticks) {
      const room = (this.width - this.left - this.right) / this.spec.ticks.length;
      const widest = 8 * Math.max(...this.spec.ticks.map((text) => text.length)) + 6;
      const every = Math.max(1, Math.ceil(widest / room));
      return this.spec.ticks.map((text, index) => [index, text]).filter(([index]) => index % every === 0);
    }
    const labels = this.spec.x || [...Array(this.count).keys()];
    const wanted = this.width < 480 ? 6 : 10, ticks = [];
    if (this.spec.x && !this.spec.whole) {
      const step = niceStep((this.last - this.first) / wanted);
      for (let x = Math.ceil(this.first / step) * step; x <= this.last + 1e-9; x += step) {
        const near = labels.reduce((best, value, i) => (Math.abs(value - x) < Math.abs(labels[best] - x) ? i : best), 0);
        ticks.push([near, figureOf(labels[near])]);
      }
      return ticks.filter(([index], i) => !i || index !== ticks[i - 1][0]);
    }
    const step = Math.max(1, Math.round(niceStep(this.count / wanted)));
    for (let i = 0; i < this.count; i += step) ticks.push([i, String(labels[i])]);
    return ticks;
  }

  x(index) {
    const value = this.spec.x ? this.spec.x[index] : index;
    return this.left + ((this.width - this.left - this.right) * (value - this.first)) / (this.last - this.first || 1);
  }

  y(value) { return 8 + (this.height - 8 - 42) * (1 - (value - this.low) / (this.high - this.low)); }

  // A lone point between gaps becomes a dash.
  path(values) {
    let path = '', open = false;
    values.forEach((value, index) => {
      if (value === null) { open = false; return; }
      path += `${open ? 'L' : 'M'}${this.x(index).toFixed(1)} ${this.y(value).toFixed(1)}`;
      const next = values[index + 1];
      if (!open && (next === null || next === undefined)) path += 'h3';
      open = true;
    });
    return path;
  }

  indexAt(event) {
    const box = this.plot.getBoundingClientRect();
    const x = ((event.clientX - box.left) * this.width) / box.width;
    let best = 0;
    for (let i = 1; i < this.count; i++) if (Math.abs(this.x(i) - x) < Math.abs(this.x(best) - x)) best = i;
    return best;
  }

  key(event) {
    const page = Math.max(1, Math.round(this.count / 10));
    const step = { ArrowLeft: -1, ArrowRight: 1, PageDown: -page, PageUp: page }[event.key];
    let index = this.index;
    if (step !== undefined) index = index === null ? (step > 0 ? 0 : this.count - 1) : index + step;
    else if (event.key === 'Home') index = 0;
    else if (event.key === 'End') index = this.count - 1;
    else if (event.key === 'Escape') index = null;
    else if (event.key === 'Enter' && this.choose && index !== null) return this.choose(index);
    else return undefined;
    event.preventDefault();
    return this.cursor.move(index === null ? null : Math.min(Math.max(index, 0), this.count - 1));
  }

  // What is read while the cursor is nowhere: of curves over frames their means.
  idle() {
    if (!this.spec.linked) return 'Point at the chart, or use the arrow keys, to read values.';
    const means = this.spec.curves.filter((curve) => !curve.reference).map((curve) => {
      const known = curve.values.filter((value) => value !== null && value !== undefined);
      const mean = known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
      return `${curve.name} ${figureOf(mean, this.spec.unit)}`;
    });
    return `${this.spec.means}: ${means.join(' · ')}`;
  }

  point(index) {
    this.index = index;
    if (!this.overlay) return;
    this.overlay.replaceChildren();
    if (index === null || index >= this.count) { this.readout.textContent = this.idle(); return; }
    const x = this.x(index);
    this.overlay.append(shape('line', { class: 'cursor', x1: x, x2: x, y1: 8, y2: this.height - 42 }));
    this.spec.curves.forEach((curve, i) => {
      const value = curve.values[index];
      if (value === null || value === undefined) return;
      this.overlay.append(shape('circle', { class: `dot ${this.kind(curve, i)}`, cx: x, cy: this.y(value), r: 4 }));
    });
    const place = this.spec.ticks ? this.spec.ticks[index] : `${this.spec.x_label} ${figureOf(this.spec.x ? this.spec.x[index] : index)}`;
    const values = this.spec.curves.filter((curve) => !curve.reference).map((curve) => `${curve.name} ${figureOf(curve.values[index], this.spec.unit)}`);
    const remark = this.spec.remarks && this.spec.remarks[index] ? ` (${this.spec.remarks[index]})` : '';
    this.readout.textContent = `${place}: ${values.join(' · ')}${remark}`;
  }
}
