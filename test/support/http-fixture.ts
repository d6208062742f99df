/** The supervisor's HTTP side over a control in memory. */
import type { TestContext } from 'node:test';
import { systemAmbient } from '../../src/ambient.ts';
import { createLogger } from '../../src/logger.ts';
import type { HttpToken } from '../../src/pipeline/pipeline-config.ts';
import { ActivityLog } from '../../src/supervisor/http/activity-log.ts';
import {
  buildHttpServer,
  type HttpServerOptions,
  startHttpServer,
} from '../../src/supervisor/http/http-server.ts';
import { MemoryStateStore } from '../../src/storage/state/memory-state-store.ts';
import { FakeControl } from './fake-control.ts';

export const OPERATOR_TOKEN = 'operator-token-0123456789';
export const VIEWER_TOKEN = 'viewer-token-0123456789';

/** A viewer and an operator. */
export const TOKENS: readonly HttpToken[] = [
  { name: 'ops', role: 'operator', token: OPERATOR_TOKEN },
  { name: 'eyes', role: 'viewer', token: VIEWER_TOKEN },
];

/** What a server is made of, for the test to look into. */
export interface HttpParts {
  readonly options: HttpServerOptions;
  readonly control: FakeControl;
  readonly activity: ActivityLog;
  readonly state: MemoryStateStore;
  readonly logLines: readonly Readonly<Record<string, unknown>>[];
}

/** Server parts in memory. */
export function httpParts(differs: Partial<HttpServerOptions['http']> = {}): HttpParts {
  const { clock } = systemAmbient;
  const logLines: Record<string, unknown>[] = [];
  const logger = createLogger({
    clock,
    level: 'warn',
    write: (line) => void logLines.push(JSON.parse(line) as Record<string, unknown>),
  });
  const control = new FakeControl();
  const state = new MemoryStateStore({ clock });
  const activity = new ActivityLog({ clock, logger, state });
  const options: HttpServerOptions = {
    http: { host: '127.0.0.1', port: 0, tokens: [], ...differs },
    control,
    activity,
    processNumbers: () => ({ memoryBytes: 1, cpuSeconds: 2, startedAtSeconds: 3 }),
    version: '1.2.3',
    ambient: systemAmbient,
    logger,
  };
  return { options, control, activity, state, logLines };
}

/** A server without a socket. */
export async function injectedServer(
  t: TestContext,
  differs: Partial<HttpServerOptions['http']> = {},
) {
  const parts = httpParts(differs);
  const server = await buildHttpServer(parts.options);
  t.after(() => server.close());
  return { ...parts, app: server.app };
}

/** A server that listens on a port of its own. */
export async function listeningServer(
  t: TestContext,
  differs: Partial<HttpServerOptions['http']> = {},
) {
  const parts = httpParts(differs);
  const server = await startHttpServer(parts.options);
  t.after(() => server.close());
  return { ...parts, address: server.address };
}
