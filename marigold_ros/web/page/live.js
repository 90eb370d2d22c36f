// The live view of a running node: a list of nodes, a stream of images, how it goes in words.
'use strict';

const STATE_MS = 1000;
const LOST_S = 3;

class LiveView {
  constructor(box) {
    this.select = box.querySelector('#node');
    this.button = box.querySelector('#watch');
    this.text = box.querySelector('#live-text');
    this.view = box.querySelector('#live-view');
    this.image = box.querySelector('#live-image');
    box.querySelector('details').addEventListener('toggle', (event) => (event.target.open ? this.list() : this.stop()));
    this.button.addEventListener('click', () => (this.timer ? this.stop() : this.start()));
    this.select.addEventListener('change', () => { if (this.timer) { this.stop(); this.start(); } });
    this.image.addEventListener('error', () => this.refused());
  }

  async list() {
    this.text.textContent = 'looking for nodes';
    this.button.disabled = true;
    try {
      const { nodes, scale } = await ask('/api/live');
      for (const end of ['near', 'far']) document.getElementById(`live-${end}`).textContent = `${end}, ${scale[end]} m unless the node has another scale`;
      this.select.replaceChildren(...nodes.map((name) => element('option', {}, name)));
      this.text.textContent = nodes.length ? '' : 'No depth node is seen. Start one, and check that ROS_DOMAIN_ID is the same.';
    } catch (error) { this.text.textContent = error.message; }
    this.button.textContent = this.select.value ? 'Watch' : 'Look again';
    this.button.disabled = false;
  }

  start() {
    const node = this.select.value;
    if (!node) { this.list(); return; }
    this.button.textContent = 'Stop';
    this.text.textContent = 'waiting for the first image';
    this.image.src = `/api/live/images?${new URLSearchParams({ node })}`;
    this.view.hidden = false;
    this.timer = setInterval(() => this.refresh(node), STATE_MS);
  }

  async refresh(node) {
    const words = await ask(`/api/live/state?${new URLSearchParams({ node })}`).then((state) => this.words(state), (error) => error.message);
    if (this.timer && node === this.select.value) this.text.textContent = words; // it may be stopped meanwhile, or show another
  }

  words({ hertz, age, silence, fit, reason }) {
    const why = reason ? `: ${reason}` : '';
    if (silence > LOST_S) return `nothing from the node for ${Math.round(silence)} s${reason ? `; before that: ${reason}` : ''}`;
    if (fit === 'none') return `no metric depth${why}`;
    if (age === null || age === undefined) return 'waiting for the first image';
    if (age > LOST_S) return `no image for ${Math.round(age)} s${why}`;
    const rate = hertz ? `${hertz.toFixed(1)} images a second` : 'one image';
    return fit === 'held' ? `${rate}, with the fit of an earlier image${why}` : rate;
  }

  refused() {
    this.stop();
    this.text.textContent = 'No images come: the node has ended, or too many pages watch already. Close one of them, or look at another node.';
  }

  stop() {
    clearInterval(this.timer);
    this.timer = 0;
    this.view.hidden = true;
    this.image.removeAttribute('src');
    this.text.textContent = '';
    this.button.textContent = 'Watch';
  }
}

new LiveView(document.getElementById('live'));
