/**
 * A process to be killed or raced by fs-object-store.test.ts. Arguments: `put ROOT` writes 16 MiB
 * objects of one repeated byte until killed; `race ROOT KEYS` creates every key and sends its wins.
 */
import { systemAmbient } from '../../../src/ambient.ts';
import { silentLogger } from '../../../src/logger.ts';
import { openFsObjectStore } from '../../../src/storage/object-store/fs-object-store.ts';

const [mode, path = '', keys = '0'] = process.argv.slice(2);
const store = await openFsObjectStore({ path, ambient: systemAmbient, logger: silentLogger });

if (mode === 'put') {
  for (let i = 0; ; i++) {
    const body = new Uint8Array(16 << 20).fill(i + 1);
    await store.put(`put/${i}`, body);
    await store.put('put/replaced', body);
    await store.createIfAbsent(`create/${i}`, body);
  }
} else {
  process.send!('ready');
  await new Promise((resolve) => process.once('message', resolve));
  const attempts = Array.from({ length: Number(keys) }, async (_, i) => {
    const outcome = await store.createIfAbsent(`race/${i}`, Buffer.from(`${process.pid}`));
    return outcome === 'created' ? [i] : [];
  });
  process.send!((await Promise.all(attempts)).flat(), () => process.disconnect());
}
