/** Removes what a pipeline has in Redis: state and queues, all of it hints (P1). */
import { RedisLink, type RedisLinkOptions } from '../redis.ts';
import { escapeGlob } from './redis-state-store.ts';

const SCAN_COUNT = 1_000;

/**
 * Removes every key below `<prefix>:`, and no other.
 * @returns how many
 * @throws PipelineError unavailable | invalid
 */
export async function eraseRedisState(
  options: Pick<RedisLinkOptions, 'url' | 'clock' | 'logger'> & { readonly prefix: string },
): Promise<number> {
  const { prefix } = options;
  const link = new RedisLink({
    ...options,
    unavailableCode: 'TM_STATE_UNAVAILABLE',
    connectionName: `${prefix}:erase`,
  });
  try {
    const pattern = `${escapeGlob(prefix)}:*`;
    let erased = 0;
    let cursor = '0';
    do {
      const [next, keys] = await link.run((client) =>
        client.scan(cursor, 'MATCH', pattern, 'COUNT', SCAN_COUNT),
      );
      if (keys.length > 0) erased += await link.run((client) => client.unlink(...keys));
      cursor = next;
    } while (cursor !== '0');
    return erased;
  } finally {
    await link.close();
  }
}
