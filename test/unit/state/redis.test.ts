/** What is made of a Redis server's words; no server needed. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PipelineError } from '../../../src/errors.ts';
import {
  checkServer,
  describeRedisUrl,
  parseInfo,
  redisError,
} from '../../../src/storage/redis.ts';

const at = { code: 'TM_STATE_UNAVAILABLE', server: 'redis://r:6379' } as const;

function reply(message: string): Error {
  return Object.assign(new Error(message), { name: 'ReplyError' });
}

test('each failure of Redis has the kind that says what to do about it', () => {
  const kinds: Record<string, readonly Error[]> = {
    unavailable: [
      new Error('connect ECONNREFUSED 127.0.0.1:6379'),
      new Error('Connection is closed.'),
      new Error('Command timed out'),
      reply("OOM command not allowed when used memory > 'maxmemory'."),
      reply('ERR Error running script (call to f_1): @user_script:3: OOM command not allowed'),
      reply("READONLY You can't write against a read only replica."),
      reply('LOADING Redis is loading the dataset in memory'),
      reply('MASTERDOWN Link with MASTER is down'),
      reply('MISCONF Redis is configured to save RDB snapshots, but it cannot persist to disk'),
      reply('BUSY Redis is busy running a script'),
      reply('NOREPLICAS Not enough good replicas to write.'),
    ],
    invalid: [
      reply('NOAUTH Authentication required.'),
      reply('WRONGPASS invalid username-password pair or user is disabled.'),
      reply("NOPERM this user has no permissions to run the 'eval' command"),
      reply('WRONGTYPE Operation against a key holding the wrong kind of value'),
    ],
    internal: [reply("ERR unknown command 'HGETALLX'")],
  };
  for (const [kind, errors] of Object.entries(kinds)) {
    for (const error of errors) assert.equal(redisError(error, at).kind, kind, error.message);
  }
  const own = new PipelineError('fenced', 'TM_STOPPED', 'x');
  assert.equal(redisError(own, at), own);
  assert.equal(redisError('text', at).code, 'TM_STATE_UNAVAILABLE');
});

test('a server is named without its credentials (RD3), and anything else is refused', () => {
  assert.equal(describeRedisUrl('redis://u:secret@r:6380/2'), 'redis://r:6380/2');
  assert.equal(describeRedisUrl('rediss://:secret@r'), 'rediss://r');
  for (const url of ['', 'r:6379', 'http://r:6379', '/tmp/redis.sock']) {
    assert.throws(() => describeRedisUrl(url), { kind: 'invalid', code: 'TM_CONFIG_INVALID' });
  }
});

test('only a primary that never evicts passes the check (RD2)', () => {
  const check = (text: string): readonly string[] => checkServer(parseInfo(text), at.server);
  const good = '# Server\r\nredis_version:7.0.15\r\nmaxmemory_policy:noeviction\r\nrole:master\r\n';
  assert.deepEqual(check(good), []);
  const unsafe = { kind: 'invalid', code: 'TM_STATE_UNSAFE' };
  assert.throws(() => check(good.replace('noeviction', 'volatile-ttl')), unsafe);
  assert.throws(() => check(good.replace('master', 'slave')), unsafe);
  assert.throws(() => check(good.replace('7.0.15', '4.0.14')), unsafe);
  assert.match(check('redis_version:7.0.0\r\nrole:master\r\n')[0] ?? '', /maxmemory-policy/);
});
