'use strict';

// The few raw frames that the driver needs itself; JSON headers only.

const net = require('net');

/** One request on its own connection; resolves to {header, body}. */
function request(address, code, extFields = {}, body = Buffer.alloc(0), timeoutMs = 5000) {
  const [host, port] = address.split(':');
  const header = Buffer.from(JSON.stringify({
    code, extFields, flag: 0, language: 'JAVA', opaque: 1, serializeTypeCurrentRPC: 'JSON', version: 409,
  }));
  const head = Buffer.alloc(8);
  head.writeUInt32BE(4 + header.length + body.length, 0);
  head.writeUInt32BE(header.length, 4);
  return new Promise((resolve, reject) => {
    let received = Buffer.alloc(0);
    const socket = net.connect({ host, port: Number(port) });
    const timer = setTimeout(() => socket.destroy(new Error(`request ${code} to ${address}: no answer`)), timeoutMs);
    socket.on('connect', () => socket.write(Buffer.concat([head, header, body])));
    socket.on('error', reject);
    socket.on('close', () => {
      clearTimeout(timer);
      reject(new Error(`request ${code} to ${address}: the connection was closed`));
    });
    socket.on('data', data => {
      received = Buffer.concat([received, data]);
      if (received.length < 4 || received.length < 4 + received.readUInt32BE(0)) return;
      const headerBytes = received.readUInt32BE(4) & 0xffffff;
      resolve({
        header: JSON.parse(received.subarray(8, 8 + headerBytes)),
        body: received.subarray(8 + headerBytes, 4 + received.readUInt32BE(0)),
      });
      clearTimeout(timer);
      socket.destroy();
    });
  });
}

async function succeed(address, code, extFields, body) {
  const answer = await request(address, code, extFields, body);
  if (answer.header.code !== 0) throw new Error(`request ${code}: code ${answer.header.code}, ${answer.header.remark}`);
  return answer;
}

const createTopic = (broker, topic, queues, order = false) =>
  succeed(broker, 17, {
    topic, defaultTopic: 'TBW102', readQueueNums: `${queues}`, writeQueueNums: `${queues}`, perm: '6',
    topicFilterType: 'SINGLE_TAG', topicSysFlag: '0', order: `${order}`,
  });

const isRoutable = async (nameServer, topic) => (await request(nameServer, 105, { topic })).header.code === 0;

async function consumerIds(broker, group) {
  const answer = await request(broker, 38, { consumerGroup: group });
  return answer.header.code === 0 ? JSON.parse(answer.body).consumerIdList.sort() : [];
}

/** All tags that a pull of one queue with a subscription brings; what the broker filters out does not come. */
async function pulledTags(broker, topic, queueId, subscription) {
  const tags = [];
  let offset = 0;
  for (;;) {
    const { header, body } = await request(broker, 11, {
      consumerGroup: 'interop_raw', topic, queueId: `${queueId}`, queueOffset: `${offset}`, maxMsgNums: '32',
      sysFlag: '4', commitOffset: '0', suspendTimeoutMillis: '0', subscription, subVersion: '0',
    });
    for (let at = 0; header.code === 0 && at < body.length; at += body.readInt32BE(at)) {
      const record = body.subarray(at, at + body.readInt32BE(at));
      const found = /TAGS\x01([^\x02]*)/.exec(record.toString('utf8'));
      tags.push(found ? found[1] : null);
    }
    const next = Number(header.extFields.nextBeginOffset);
    if (next >= Number(header.extFields.maxOffset)) return tags;
    if (header.code !== 0 && header.code !== 20) throw new Error(`pull: code ${header.code}, ${header.remark}`);
    offset = next;
  }
}

module.exports = { request, createTopic, isRoutable, consumerIds, pulledTags };
