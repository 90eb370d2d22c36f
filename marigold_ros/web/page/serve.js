// Choose or drop a file, follow its job, show what it has found.
'use strict';

const POLL_MS = 250;

function byId(id) {
  return document.getElementById(id);
}

async function answerOf(response) {
  const content = await response.json();
  if (!response.ok) throw new Error(content.error);
  return content;
}

function megabytes(bytes) {
  return bytes >= 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

class Page {
  constructor(settings) {
    this.settings = settings;
    this.fillModels();
    byId('file').addEventListener('change', (event) => {
      const [file] = event.target.files;
      event.target.value = '';
      if (file) this.send(file);
    });
    byId('cancel').addEventListener('click', () => this.cancel());
    byId('path-form').addEventListener('submit', (event) => { event.preventDefault(); this.name(byId('path').value.trim()); });
    this.listenForDrops(byId('drop'));
    this.resume(location.hash.slice(1));
  }

  // A reload goes on with the job that the address names.
  async resume(id) {
    if (!id) return;
    history.replaceState(null, '', '/');
    const response = await fetch(`/api/jobs/${encodeURIComponent(id)}`);
    if (!response.ok) return;
    const job = await response.json();
    this.begin(job.name);
    this.follow(job);
  }

  fillModels() {
    const select = byId('model'), { models } = this.settings;
    for (const model of models) select.append(element('option', {}, model.name));
    const chosen = () => {
      const model = models[select.selectedIndex];
      byId('steps-box').hidden = !model.steps;
      byId('remark').textContent = model.remark && `${model.name} is ${model.remark}`;
    };
    select.addEventListener('change', chosen);
    chosen();
  }

  listenForDrops(area) {
    const over = (is) => (event) => { event.preventDefault(); area.classList.toggle('over', is); };
    for (const name of ['dragenter', 'dragover']) document.addEventListener(name, over(true));
    document.addEventListener('dragleave', over(false));
    document.addEventListener('drop', (event) => {
      over(false)(event);
      const [file] = event.dataTransfer.files;
      if (file) this.send(file);
    });
  }

  choices() {
    const steps = byId('steps-box').hidden ? '0' : byId('steps').value;
    return { model: byId('model').value, steps, every: byId('every').value || '1' };
  }

  // Sends a file; too large ones are refused here already, as the server would.
  send(file) {
    const { limits, images } = this.settings;
    const isPhoto = images.some((suffix) => file.name.toLowerCase().endsWith(suffix));
    const most = isPhoto ? limits.photo : limits.other;
    if (file.size > most) {
      this.fail(`${file.name} has ${megabytes(file.size)}, and may have ${megabytes(most)}`);
      return;
    }
    this.begin(`sending ${file.name}`);
    const request = new XMLHttpRequest();
    this.request = request;
    request.open('POST', `/api/files?${new URLSearchParams({ name: file.name, ...this.choices() })}`);
    request.responseType = 'json';
    request.upload.addEventListener('progress', (event) => this.progress(`sending ${file.name}`, event.loaded, event.total));
    request.addEventListener('load', () => {
      this.request = null;
      const answer = request.response;
      if (request.status === 202) this.follow(answer);
      else this.fail(answer ? answer.error : 'the server gave no answer; is it still running?');
    });
    request.addEventListener('error', () => this.fail(`${file.name} could not be sent; is the server still running?`));
    request.send(file);
  }

  async name(path) {
    this.begin('reading the bag');
    try {
      const query = new URLSearchParams({ path, ...this.choices() });
      this.follow(await answerOf(await fetch(`/api/bags?${query}`, { method: 'POST' })));
    } catch (error) { this.fail(error.message); }
  }

  begin(text) {
    if (this.request) this.request.abort();
    if (this.view) this.view.close();
    clearTimeout(this.timer);
    // Nobody would see the result of the job before.
    if (this.job && !this.job.ended) this.drop(this.job);
    this.job = null;
    this.view = new ResultView(byId('result'));
    byId('problem').hidden = true;
    byId('progress').hidden = false;
    this.progress(text, 0, 0);
  }

  follow(job) {
    this.job = job;
    history.replaceState(null, '', `#${job.id}`);
    this.view.update(job);
    if (job.ended) {
      if (job.state === 'failed') this.fail(job.text);
      else this.finish(job);
      return;
    }
    this.progress(`${job.name}: ${job.text}`, job.done, job.total);
    this.timer = setTimeout(async () => {
      let next = null, problem = '';
      try { next = await answerOf(await fetch(`/api/jobs/${job.id}`)); }
      catch (error) { problem = error instanceof TypeError ? 'the server does not answer any more' : error.message; }
      if (this.job !== job) return; // another file was sent meanwhile
      if (next) this.follow(next);
      else this.fail(problem);
    }, POLL_MS);
  }

  finish(job) {
    this.progress(`${job.name}: ${job.text}`, 1, 1);
    byId('cancel').hidden = true;
    byId('bar').hidden = true;
  }

  progress(text, done, total) {
    const count = total && done > 1 && total > 1 && total < 1e6 ? `, ${done} of ${total}` : '';
    byId('status').textContent = text + count;
    for (const id of ['cancel', 'bar']) byId(id).hidden = false;
    if (total) byId('bar').value = done / total;
    else byId('bar').removeAttribute('value');
  }

  fail(text) {
    this.request = null;
    byId('progress').hidden = true;
    byId('problem').textContent = text;
    byId('problem').hidden = false;
  }

  drop(job) {
    history.replaceState(null, '', '/');
    fetch(`/api/jobs/${job.id}`, { method: 'DELETE' }).catch(() => {});
  }

  cancel() {
    clearTimeout(this.timer);
    if (this.request) this.request.abort();
    this.request = null;
    if (this.job) this.drop(this.job);
    this.job = null;
    this.view.close();
    byId('progress').hidden = true;
    byId('problem').textContent = 'cancelled';
    byId('problem').hidden = false;
  }
}

fetch('/api/settings').then(answerOf).then((settings) => new Page(settings)).catch((error) => {
  byId('problem').textContent = error.message;
  byId('problem').hidden = false;
});
