/**
 * Whether the process in this container is well: `node healthcheck.ts FILE`, exit code 0 or 1. It needs
 * no shell and does not ask which role runs.
 *
 * HC1 A supervisor is well while it answers /livez. A worker or writer is well while the state store
 *     has a live member of this host.
 * HC2 An outage elsewhere never makes a process unwell: nodes go on without the state store (NA3), and
 *     a restart would only throw their work away.
 */
import { hostname } from 'node:os';
import { pathToFileURL } from 'node:url';
import { systemAmbient } from '../../src/ambient.ts';
import { loadPipeline } from '../../src/config.ts';
import type { Environment } from '../../src/config/yaml-document.ts';
import { createLogger } from '../../src/logger.ts';
import type { PipelineConfig } from '../../src/pipeline/pipeline-config.ts';
import { createStateStore } from '../../src/storage/state/create-state-store.ts';
import { readMembers } from '../../src/supervisor/membership.ts';

const WITHIN_MS = 10_000;

/** What was found, for `docker inspect` and events of a pod. */
export interface Health {
  readonly isWell: boolean;
  readonly why: string;
}

/** HC1, HC2. @param host name by which members of this container announce themselves */
export async function healthOf(config: PipelineConfig, host: string): Promise<Health> {
  if (await answersLivez(config.supervisor.http)) {
    return { isWell: true, why: 'the supervisor answers' };
  }
  const { clock } = systemAmbient;
  const logger = createLogger({ clock, level: 'error', write: () => {} });
  try {
    const state = await createStateStore(config, {
      ambient: systemAmbient,
      logger,
      readOnly: true,
    });
    try {
      const { alive } = await readMembers(state);
      const own = alive.filter((member) => member.host === host);
      if (own.length === 0) return { isWell: false, why: `no live member on ${host}` };
      return { isWell: true, why: `${own.map((member) => member.memberId).join(', ')} live` };
    } finally {
      await state.close();
    }
  } catch (thrown) {
    return { isWell: true, why: `cannot tell: ${(thrown as Error).message}` };
  }
}

async function answersLivez({
  host,
  port,
}: PipelineConfig['supervisor']['http']): Promise<boolean> {
  const address = host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host;
  try {
    const response = await fetch(`http://${address}:${port}/livez`, {
      signal: AbortSignal.timeout(WITHIN_MS),
    });
    return response.ok;
  } catch {
    return false;
  }
}

/** Loads the pipeline as a command would. @param environment for `${NAME}` in the file */
export function healthFromFile(file: string, environment: Environment): Promise<Health> {
  return healthOf(loadPipeline(file, { environment, cwd: process.cwd() }), hostname());
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const health = await healthFromFile(process.argv[2] ?? 'pipeline.yaml', process.env);
  console.log(health.why);
  process.exit(health.isWell ? 0 : 1);
}
