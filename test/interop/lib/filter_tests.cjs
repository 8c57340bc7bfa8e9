'use strict';

// Filters by SQL92, as the client asks for them: with the heartbeat and with every pull.

const assert = require('assert');

/** The tests by name; `tools` are run.cjs's. */
module.exports = ({ makeTopic, member, send, range, received, eventually, sorted }) => ({
  async 'SQL92 is evaluated by the broker'(producer) {
    await makeTopic('IoSql', 2);
    const dress = (message, i) => {
      message.tags = i % 2 ? 'odd' : 'even';
      message.properties.amount = `${i}`;
    };
    await send(producer, 'IoSql', range(0, 40), dress);
    const sql = "amount BETWEEN 10 AND 29 AND TAGS = 'odd' AND missing IS NULL";
    const one = member('IoSql', 'io_sql', { tags: { expressionType: 'SQL92', subString: sql } });
    await eventually('the messages that match', received([one], 10));
    await send(producer, 'IoSql', range(0, 12), dress);  // while pulls wait
    await eventually('one more that matches', received([one], 11));
    const wanted = range(10, 30).filter((_, i) => i % 2 === 1);
    assert.deepStrictEqual(sorted(one.bodies), sorted([...wanted, 'body 11']));
    await one.leave();
  },

  async 'SQL92 that cannot be parsed reaches nobody, and the client is told'(producer) {
    await makeTopic('IoBadSql', 1);
    await send(producer, 'IoBadSql', range(0, 3));
    const bad = member('IoBadSql', 'io_bad_sql', { tags: { expressionType: 'SQL92', subString: 'amount >' } });
    await eventually('the refusal', () => bad.errors.some(error => error.includes('line 1, column 9')) || bad.errors.join());
    assert.deepStrictEqual(bad.bodies, []);
    await bad.leave();
  },
});
