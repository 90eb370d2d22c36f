// A cloud to turn around, drawn point by point into a canvas with a depth buffer of its own: a few
// ten thousand points need no graphics card, so that it looks the same everywhere.
'use strict';

function bytesOf(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

const CLOUD_KEYS = [
  ['ArrowLeft', '←', 'turn left'], ['ArrowRight', '→', 'turn right'], ['ArrowUp', '↑', 'from above'],
  ['ArrowDown', '↓', 'from below'], ['+', '+', 'closer'], ['-', '−', 'farther'], ['0', 'reset', 'reset'],
];

class Cloud {
  // The panel has a note, above which cloud and buttons are put.
  constructor(panel, data) {
    this.xyz = new Int16Array(bytesOf(data.xyz).buffer);
    this.rgb = bytesOf(data.rgb);
    Object.assign(this, { unit: data.unit, size: data.size, target: data.target, count: data.count });
    this.canvas = element('canvas', { tabindex: 0, role: 'img', 'aria-label': 'Point cloud; arrow keys turn it, plus and minus zoom, 0 resets the view' });
    this.state = element('output');
    const choices = element('div', { class: 'choices' });
    for (const [key, text, meaning] of CLOUD_KEYS) {
      const button = element('button', { type: 'button', 'aria-label': meaning }, text);
      button.addEventListener('click', () => this.act(key));
      choices.append(button);
    }
    panel.querySelector('.note').before(this.canvas, this.state, choices);
    this.pointers = new Map();
    this.listen();
    this.home();
    new ResizeObserver(() => this.later()).observe(this.canvas);
  }

  listen() {
    const { canvas } = this;
    canvas.addEventListener('keydown', (event) => { if (!isOfBrowser(event) && this.act(event.key)) event.preventDefault(); });
    canvas.addEventListener('pointerdown', (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    });
    for (const end of ['pointerup', 'pointercancel']) {
      canvas.addEventListener(end, (event) => this.pointers.delete(event.pointerId));
    }
    canvas.addEventListener('pointermove', (event) => this.drag(event));
    canvas.addEventListener('wheel', (event) => {
      // The page scrolls over the canvas unless somebody works with it.
      if (document.activeElement !== canvas && !event.ctrlKey) return;
      event.preventDefault();
      this.turn(0, 0, Math.exp(event.deltaY / 500));
    }, { passive: false });
  }

  home() {
    Object.assign(this, { yaw: -0.15, pitch: 0.15, zoom: 1 });
    this.later();
  }

  act(key) {
    const turns = {
      ArrowLeft: [-0.1, 0, 1], ArrowRight: [0.1, 0, 1], ArrowUp: [0, 0.1, 1], ArrowDown: [0, -0.1, 1],
      '+': [0, 0, 0.85], '=': [0, 0, 0.85], '-': [0, 0, 1 / 0.85],
    };
    if (turns[key]) this.turn(...turns[key]);
    else if (key === '0' || key === 'Home') this.home();
    else return false;
    return true;
  }

  drag(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const now = [event.clientX, event.clientY];
    if (this.pointers.size === 1) {
      this.turn((now[0] - before[0]) / 200, (now[1] - before[1]) / 200, 1);
    } else {
      const [other] = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
      const span = (place) => Math.hypot(place[0] - other[0], place[1] - other[1]) || 1;
      this.turn(0, 0, span(before) / span(now));
    }
    this.pointers.set(event.pointerId, now);
  }

  turn(yaw, pitch, zoom) {
    this.yaw = (this.yaw + yaw) % (2 * Math.PI);
    this.pitch = Math.min(Math.max(this.pitch + pitch, -1.5), 1.5);
    this.zoom = Math.min(Math.max(this.zoom * zoom, 0.1), 5);
    this.later();
  }

  later() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.draw(); });
  }

  draw() {
    const box = this.canvas.getBoundingClientRect();
    const sharpness = Math.min(window.devicePixelRatio || 1, 2);
    const width = Math.round(box.width * sharpness), height = Math.round(box.height * sharpness);
    if (!width || !height) return;
    Object.assign(this.canvas, { width, height });
    const context = this.canvas.getContext('2d');
    const image = context.createImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer).fill(0xff161210);
    const depths = new Float32Array(width * height).fill(Infinity);
    this.splat(pixels, depths, width, height);
    context.putImageData(image, 0, 0);
    const degrees = (angle) => Math.round((angle * 180) / Math.PI);
    this.state.textContent = `${this.count} points, turned by ${degrees(this.yaw)}°, tilted by ${degrees(this.pitch)}°, zoom ${(1 / this.zoom).toFixed(1)}`;
  }

  splat(pixels, depths, width, height) {
    const { xyz, rgb, unit, target } = this;
    const [cy, sy, cp, sp] = [Math.cos(this.yaw), Math.sin(this.yaw), Math.cos(this.pitch), Math.sin(this.pitch)];
    const distance = 1.35 * target[2] * this.zoom, focal = 0.9 * Math.min(width, 1.6 * height);
    for (let i = 0, j = 0; i < this.count; i++, j += 3) {
      const z0 = xyz[j + 2] * unit;
      const x = xyz[j] * unit - target[0], y = xyz[j + 1] * unit - target[1], z = z0 - target[2];
      const right = cy * x - sy * z, ahead = sy * x + cy * z;
      const down = cp * y - sp * ahead, depth = cp * ahead + sp * y + distance;
      if (depth < 0.05 * distance) continue;
      const u = Math.round(width / 2 + (focal * right) / depth), v = Math.round(height / 2 + (focal * down) / depth);
      // As large as the distance to the next point of its row, so that surfaces stay closed.
      const side = Math.min(Math.max(Math.ceil((1.6 * focal * this.size * z0) / depth), 1), 12);
      const colour = 0xff000000 | (rgb[j + 2] << 16) | (rgb[j + 1] << 8) | rgb[j];
      const left = u - (side >> 1), top = v - (side >> 1);
      for (let row = Math.max(top, 0); row < Math.min(top + side, height); row++) {
        for (let column = Math.max(left, 0); column < Math.min(left + side, width); column++) {
          const k = row * width + column;
          if (depth < depths[k]) { depths[k] = depth; pixels[k] = colour; }
        }
      }
    }
  }
}
