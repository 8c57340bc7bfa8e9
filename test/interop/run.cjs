'use strict';

// usage: node run.cjs MQNAMESRV MQBROKER
// A foreign client against the real binaries, on free loopback ports and in a temporary folder.

const assert = require('assert');
const crypto = require('crypto');
const fs = require('fs');
const os = require('os');
const path = require('path');
const { Producer, Message } = require('ali-ons');
const { createTopic, isRoutable, consumerIds, pulledTags } = require('./lib/wire.cjs');
const { freePort, eventually, start, stop, stopAll, Member } = require('./lib/processes.cjs');

const [nameServerBinary, brokerBinary] = process.argv.slice(2);
if (!brokerBinary) {
  console.error('usage: node run.cjs MQNAMESRV MQBROKER');
  process.exit(2);
}

const cluster = {};

async function startCluster(folder) {
  const nameServerPort = await freePort();
  cluster.nameServer = `127.0.0.1:${nameServerPort}`;
  cluster.nameServerProcess = start(nameServerBinary,
    ['--listenPort', `${nameServerPort}`, '--bindAddress', '127.0.0.1'], folder);
  const brokerPort = await freePort([-2, 1]);
  cluster.broker = `127.0.0.1:${brokerPort}`;
  cluster.brokerArguments = ['--listenPort', `${brokerPort}`, '--bindAddress', '127.0.0.1', '--brokerIP1', '127.0.0.1',
    '--storePathRootDir', path.join(folder, 'store'), '--brokerName', 'broker-a', '--enablePropertyFilter', 'true',
    '-n', cluster.nameServer,
    // Retries begin with level 3.
    '--messageDelayLevel', '1s 2s 1s 1s 1s'];
  cluster.folder = folder;
  cluster.brokerProcess = start(brokerBinary, cluster.brokerArguments, folder);
  try {
    await eventually('the broker is registered', () => isRoutable(cluster.nameServer, 'TBW102'));
  } catch (error) {
    for (const name of fs.readdirSync(folder).filter(file => file.endsWith('.out')))
      console.log(`${name}:\n${fs.readFileSync(path.join(folder, name), 'utf8').slice(-2000)}`);
    throw error;
  }
}

async function makeTopic(name, queues, order = false) {
  await createTopic(cluster.broker, name, queues, order);
  await eventually(`a route to ${name}`, () => isRoutable(cluster.nameServer, name));
}

function member(topic, group, more = {}) {
  return new Member({ nameServer: cluster.nameServer, topic, group, instance: `m${++member.count}`, ...more });
}
member.count = 0;

const sorted = list => [...list].sort();
const range = (from, to) => Array.from({ length: to - from }, (_, i) => `body ${from + i}`);
const received = (members, count) => () => {
  const total = members.reduce((sum, one) => sum + one.messages.length, 0);
  return total >= count ? true : `${total} of ${count}`;
};
const owns = (one, count) => () => (one.queues.length === count ? true : JSON.stringify(one.queues));

async function send(producer, topic, bodies, dress = () => {}) {
  const results = [];
  for (const [i, body] of bodies.entries()) {
    const message = new Message(topic, null, body);
    delete message.properties.TAGS;
    dress(message, i);
    const result = await producer.send(message);
    assert.strictEqual(result.sendStatus, 'SEND_OK');
    assert.match(result.msgId, /^[0-9A-F]{32}$/);
    results.push(result);
  }
  return results;
}

const tests = {
  async 'plain messages arrive as they were sent'(producer) {
    await makeTopic('IoPlain', 4);
    const bodies = [...range(0, 60), '蓝色 😀 ünï', 'x', 'compressible '.repeat(2000)];
    const results = await send(producer, 'IoPlain', bodies, message => (message.properties.user = 'a b=c;d'));
    assert.strictEqual(new Set(results.map(result => result.msgId)).size, bodies.length);
    assert.strictEqual(new Set(results.map(result => result.messageQueue.queueId)).size, 4);
    const one = member('IoPlain', 'io_plain');
    await eventually('all plain messages', received([one], bodies.length));
    assert.deepStrictEqual(sorted(one.bodies), sorted(bodies));
    assert(one.messages.every(message => message.user === 'a b=c;d'));
    const more = range(1000, 1020);
    await send(producer, 'IoPlain', more);
    await eventually('messages sent while the consumer waits', received([one], bodies.length + more.length));
    await one.leave();

    // The group goes on where it left off.
    const last = range(2000, 2010);
    await send(producer, 'IoPlain', last);
    const other = member('IoPlain', 'io_plain');
    await eventually('the rest', received([other], last.length));
    assert.deepStrictEqual(sorted(other.bodies), last);
    await other.leave();
  },

  async 'tags are filtered by the broker'(producer) {
    await makeTopic('IoTags', 2);
    const tags = ['TagA', 'TagB', '标签'];
    await send(producer, 'IoTags', range(0, 60), (message, i) => (message.tags = tags[i % 3]));
    const one = member('IoTags', 'io_tags', { tags: 'TagA || 标签' });
    await eventually('the messages of two tags', received([one], 40));
    await send(producer, 'IoTags', ['end'], message => (message.tags = 'TagA'));
    await eventually('the last message', received([one], 41));
    assert.deepStrictEqual(new Set(one.messages.map(message => message.tags)), new Set(['TagA', '标签']));
    await one.leave();
    const pulled = [...await pulledTags(cluster.broker, 'IoTags', 0, 'TagB'), ...await pulledTags(cluster.broker, 'IoTags', 1, 'TagB')];
    assert.deepStrictEqual(pulled, Array(20).fill('TagB'));
  },

  async 'keys arrive'(producer) {
    await makeTopic('IoKeys', 1);
    await send(producer, 'IoKeys', range(0, 10), (message, i) => (message.keys = [`order-${i}`, '键']));
    const one = member('IoKeys', 'io_keys');
    await eventually('all messages', received([one], 10));
    assert.deepStrictEqual(one.messages.map(message => message.keys), range(0, 10).map((_, i) => `order-${i} 键`));
    assert.deepStrictEqual(one.messages.map(message => message.queueOffset), range(0, 10).map((_, i) => i));
    await one.leave();
  },

  async 'messages of one sharding key stay in order'(producer) {
    await makeTopic('IoOrder', 4, true);
    // This client takes any queue for keys of queue 0, so such keys are left out.
    const keys = Array.from({ length: 40 }, (_, i) => `order-${i}`)
      .filter(key => crypto.createHash('md5').update(key).digest().readUInt32BE() % 4 !== 0);
    const bodies = [];
    for (let step = 0; step < 5; step++) for (const key of keys) bodies.push(`${key}:${step}`);
    await send(producer, 'IoOrder', bodies, (message, i) => (message.shardingKey = bodies[i].split(':')[0]));
    const one = member('IoOrder', 'io_order');
    await eventually('all messages', received([one], bodies.length));
    assert.deepStrictEqual(sorted(one.bodies), sorted(bodies));
    for (const key of keys) {
      const own = one.messages.filter(message => message.shardingKey === key);
      assert.deepStrictEqual(own.map(message => message.body), [0, 1, 2, 3, 4].map(step => `${key}:${step}`));
      assert.strictEqual(new Set(own.map(message => message.queueId)).size, 1);
    }
    await one.leave();
  },

  async 'every member of a broadcast group gets every message'(producer) {
    await makeTopic('IoBroadcast', 4);
    const members = [member('IoBroadcast', 'io_broadcast', { broadcast: true }), member('IoBroadcast', 'io_broadcast', { broadcast: true })];
    await Promise.all(members.map(one => eventually('all queues', owns(one, 4))));
    const bodies = range(0, 50);
    await send(producer, 'IoBroadcast', bodies);
    for (const one of members) {
      await eventually('all messages at each', received([one], bodies.length));
      assert.deepStrictEqual(sorted(one.bodies), sorted(bodies));
    }
    await Promise.all(members.map(one => one.leave()));
  },

  async 'two members share the queues, and the one that stays takes them over'(producer) {
    await makeTopic('IoGroup', 4);
    const first = member('IoGroup', 'io_group');
    await eventually('all queues for the only member', owns(first, 4));
    const second = member('IoGroup', 'io_group');
    await eventually('half of them after a second came', owns(first, 2));
    await eventually('the other half for the second', owns(second, 2));
    assert.deepStrictEqual(sorted([...first.queues, ...second.queues]), [0, 1, 2, 3]);
    assert.strictEqual((await consumerIds(cluster.broker, 'io_group')).length, 2);
    const both = range(0, 200);
    await send(producer, 'IoGroup', both);
    await eventually('all messages at the two', received([first, second], both.length));
    assert.deepStrictEqual(sorted([...first.bodies, ...second.bodies]), sorted(both));
    assert(first.messages.length > 0 && second.messages.length > 0);

    await second.leave();
    await eventually('all queues again', owns(first, 4));
    await eventually('one member in the group', async () => (await consumerIds(cluster.broker, 'io_group')).length === 1);
    await eventually('all queues still', owns(first, 4));
    const before = first.messages.length;
    await send(producer, 'IoGroup', range(1000, 1040));
    await eventually('all messages at the one', received([first], before + 40));

    const third = member('IoGroup', 'io_group');
    await eventually('half of them for a third', owns(third, 2));
    await third.crash();
    await eventually('all queues after a crash', owns(first, 4));
    await eventually('one member in the group', async () => (await consumerIds(cluster.broker, 'io_group')).length === 1);
    await eventually('all queues still', owns(first, 4));
    await first.leave();
  },

  async 'messages with a delay level wait, and come in order'(producer) {
    await makeTopic('IoDelay', 1);
    const begun = {};
    await send(producer, 'IoDelay', range(0, 20), (message, i) => {
      message.delayTimeLevel = i % 2 + 1;
      begun[`body ${i}`] = Date.now();
    });
    await send(producer, 'IoDelay', ['now']);
    const one = member('IoDelay', 'io_delay');
    await eventually('the message that does not wait', received([one], 1));
    await eventually('all delayed messages', received([one], 21));
    assert.deepStrictEqual(sorted(one.bodies), sorted([...range(0, 20), 'now']));
    for (const level of [1, 2]) {
      const own = one.messages.filter(message => message.body !== 'now' && Number(message.body.slice(5)) % 2 + 1 === level);
      assert.deepStrictEqual(own.map(message => message.body), range(0, 20).filter((_, i) => i % 2 + 1 === level));
      for (const message of own) assert(message.storeTimestamp - begun[message.body] >= level * 1000);
    }
    await one.leave();
  },

  async 'a message answered with ACTION_RETRY comes again, later each time'(producer) {
    await makeTopic('IoAction', 1);
    await send(producer, 'IoAction', ['retry']);
    const one = member('IoAction', 'io_action', { retryTimes: 2 });
    await eventually('the third delivery', received([one], 3), 40000);
    assert.deepStrictEqual(one.messages.map(message => [message.body, message.reconsumeTimes]), [['retry', 0], ['retry', 1], ['retry', 2]]);
    assert.deepStrictEqual(one.messages.map(message => message.originMessageId).slice(1), Array(2).fill(one.messages[1].originMessageId));
    assert(one.messages[1].storeTimestamp - one.messages[0].storeTimestamp >= 1000);
    await one.leave();
  },

  async 'a message that was not consumed comes again'(producer) {
    await makeTopic('IoRetry', 1);
    await send(producer, 'IoRetry', ['again']);
    const one = member('IoRetry', 'io_retry', { failOnce: true });
    await eventually('the second delivery', received([one], 2), 40000);
    assert.deepStrictEqual(one.messages.map(message => [message.body, message.reconsumeTimes]), [['again', 0], ['again', 1]]);
    await one.leave();
  },

  async 'the broker comes back with its messages and offsets'(producer) {
    await makeTopic('IoRestart', 2);
    await send(producer, 'IoRestart', range(0, 20));
    const one = member('IoRestart', 'io_restart');
    await eventually('all messages', received([one], 20));
    await one.leave();
    await send(producer, 'IoRestart', range(100, 110));
    const how = await stop(cluster.brokerProcess);
    assert.deepStrictEqual(how, { code: 0, signal: null });
    cluster.brokerProcess = start(brokerBinary, cluster.brokerArguments, cluster.folder);
    await eventually('the broker answers', async () => (await consumerIds(cluster.broker, 'nobody')).length === 0);
    await eventually('the broker is registered', () => isRoutable(cluster.nameServer, 'IoRestart'));
    const other = member('IoRestart', 'io_restart');
    await eventually('the messages that were left', received([other], 10));
    await send(producer, 'IoRestart', ['new']);
    await eventually('a new message', received([other], 11));
    assert.deepStrictEqual(sorted(other.bodies), sorted([...range(100, 110), 'new']));
    await other.leave();
  },
};

Object.assign(tests, require('./lib/filter_tests.cjs')({ makeTopic, member, send, range, received, eventually, sorted }));

async function main() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'apogee-interop-'));
  const wanted = process.env.APOGEE_INTEROP_ONLY;
  let producer;
  let failed = 0;
  try {
    await startCluster(folder);
    producer = new Producer({
      nameSrv: cluster.nameServer, onsAddr: '', httpclient: {}, clientIP: '127.0.0.1', producerGroup: 'io_producer',
      pollNameServerInteval: 1000, heartbeatBrokerInterval: 1000,
      logger: { debug() {}, info() {}, warn() {}, error: console.error },
    });
    // The client complains about every route that is gone while the broker restarts; that is told only when a test fails.
    const complaints = [];
    producer.on('error', error => complaints.push(error.message));
    await producer.ready();
    for (const [name, test] of Object.entries(tests)) {
      if (wanted && !name.includes(wanted)) continue;
      const begin = Date.now();
      try {
        await test(producer);
        console.log(`ok     ${name} (${Date.now() - begin} ms)`);
      } catch (error) {
        failed++;
        console.log(`FAILED ${name} (${Date.now() - begin} ms)\n${error.stack}`);
        console.log(complaints.map(message => `producer: ${message}`).join('\n'));
      }
    }
    await producer.close();
    for (const child of [cluster.brokerProcess, cluster.nameServerProcess]) {
      const how = await stop(child);
      if (how.code !== 0) {
        failed++;
        console.log(`FAILED ${path.basename(child.spawnfile)} ended with code ${how.code}, signal ${how.signal}`);
      }
    }
  } catch (error) {
    failed++;
    console.log(`FAILED ${error.stack}`);
  } finally {
    await stopAll();
  }
  if (failed > 0 || process.env.APOGEE_KEEP) console.log(`${failed} failed; logs and store: ${folder}`);
  else fs.rmSync(folder, { recursive: true });
  process.exit(failed > 0 ? 1 : 0);
}

main();
