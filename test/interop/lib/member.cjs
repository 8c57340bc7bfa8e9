'use strict';

// One consumer in its own process; writes what happens as lines of JSON, and leaves on a line from its standard input.

const { Consumer } = require('ali-ons');

const options = JSON.parse(process.argv[2]);
const tell = event => process.stdout.write(`${JSON.stringify(event)}\n`);
const quiet = () => {};

const consumer = new Consumer({
  nameSrv: options.nameServer,
  onsAddr: '',
  httpclient: {},
  namespace: '',
  clientIP: '127.0.0.1',
  instanceName: options.instance,
  consumerGroup: options.group,
  isBroadcast: options.broadcast === true,
  consumeFromWhere: 'CONSUME_FROM_FIRST_OFFSET',
  heartbeatBrokerInterval: 1000,
  rebalanceInterval: 1000,
  pollNameServerInteval: 1000,
  persistConsumerOffsetInterval: 500,
  logger: { debug: quiet, info: quiet, warn: quiet, error: quiet },
});
consumer.on('error', error => tell({ error: `${error.name}: ${error.message}` }));

let known = '';
const watch = setInterval(() => {
  const queues = [...consumer.processQueueTable.values()]
    .map(item => item.messageQueue)
    .filter(queue => queue.topic === options.topic)
    .map(queue => queue.queueId)
    .sort();
  if (JSON.stringify(queues) === known) return;
  known = JSON.stringify(queues);
  tell({ queues });
}, 50);

consumer.subscribe(options.topic, options.tags || '*', async message => {
  tell({
    message: {
      topic: message.topic, tags: message.tags, keys: message.keys, body: message.body.toString('utf8'),
      shardingKey: message.shardingKey, queueId: message.queueId, queueOffset: Number(message.queueOffset),
      reconsumeTimes: message.reconsumeTimes, msgId: message.msgId, user: message.properties.user,
      storeTimestamp: Number(message.storeTimestamp), originMessageId: message.originMessageId,
    },
  });
  if (message.reconsumeTimes < (options.retryTimes || 0)) {
    // This client passes over what is returned for a message that comes again, but not an exception.
    if (message.reconsumeTimes > 0) throw new Error('asked to fail again');
    return Consumer.ACTION_RETRY;
  }
  if (options.failOnce && message.reconsumeTimes === 0) throw new Error('asked to fail once');
});

process.stdin.once('data', async () => {
  clearInterval(watch);
  try {
    await consumer.close();
    process.exit(0);
  } catch (error) {
    tell({ error: error.message });
    process.exit(1);
  }
});
