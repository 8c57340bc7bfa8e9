'use strict';

// Starts and stops the binaries and the members, always by their process id.

const fs = require('fs');
const net = require('net');
const path = require('path');
const readline = require('readline');
const { spawn } = require('child_process');

const running = new Set();

const listen = port => new Promise((resolve, reject) => {
  const server = net.createServer();
  server.once('error', reject);
  server.listen(port, '127.0.0.1', () => resolve(server));
});
const close = server => new Promise(resolve => server.close(resolve));

/** A free port whose neighbours at the given distances are free too. */
async function freePort(distances = []) {
  for (let attempt = 0; attempt < 100; attempt++) {
    const held = [await listen(0)];
    const port = held[0].address().port;
    try {
      for (const distance of distances) held.push(await listen(port + distance));
      return port;
    } catch (error) {
      if (error.code !== 'EADDRINUSE' && error.code !== 'ERR_SOCKET_BAD_PORT') throw error;
    } finally {
      await Promise.all(held.map(close));
    }
  }
  throw new Error('no free ports');
}

/** Asks again and again until the answer is true. */
async function eventually(what, ask, timeoutMs = 20000) {
  const deadline = Date.now() + timeoutMs;
  let last;
  for (;;) {
    try {
      last = await ask();
      if (last === true) return;
    } catch (error) {
      last = error;
    }
    if (Date.now() > deadline) throw new Error(`${what}: not within ${timeoutMs} ms; last: ${last}`);
    await new Promise(resolve => setTimeout(resolve, 50));
  }
}

function start(binary, args, folder) {
  const name = path.basename(binary);
  const log = fs.openSync(path.join(folder, `${name}.out`), 'a');
  const child = spawn(binary, args, { cwd: folder, env: { ...process.env, HOME: folder }, stdio: ['ignore', log, log] });
  child.exited = new Promise(resolve => child.once('exit', (code, signal) => {
    running.delete(child);
    resolve({ code, signal });
  }));
  running.add(child);
  return child;
}

async function stop(child, signal = 'SIGTERM') {
  child.kill(signal);
  const timer = setTimeout(() => child.kill('SIGKILL'), 20000);
  const how = await child.exited;
  clearTimeout(timer);
  return how;
}

/** A consumer in a process of its own; what it received is in `messages`. */
class Member {
  constructor(options) {
    this.messages = [];
    this.queues = [];
    this.errors = [];
    this.child = spawn(process.execPath, [path.join(__dirname, 'member.cjs'), JSON.stringify(options)],
      { stdio: ['pipe', 'pipe', 'inherit'] });
    this.child.exited = new Promise(resolve => this.child.once('exit', (code, signal) => {
      running.delete(this.child);
      resolve({ code, signal });
    }));
    running.add(this.child);
    readline.createInterface({ input: this.child.stdout }).on('line', line => {
      const event = JSON.parse(line);
      if (event.message) this.messages.push(event.message);
      if (event.queues) this.queues = event.queues;
      if (event.error) this.errors.push(event.error);
    });
  }

  get bodies() {
    return this.messages.map(message => message.body);
  }

  /** Leaves the group as the client's close() does. */
  async leave() {
    this.child.stdin.end('leave\n');
    const { code } = await this.child.exited;
    if (code !== 0) throw new Error(`a member ended with code ${code}`);
  }

  crash() {
    this.child.kill('SIGKILL');
    return this.child.exited;
  }
}

async function stopAll() {
  await Promise.all([...running].map(child => stop(child, 'SIGKILL')));
}

module.exports = { freePort, eventually, start, stop, stopAll, Member };
