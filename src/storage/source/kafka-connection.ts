/**
 * One connection to one broker: kafkajs's TCP, TLS and SASL below our own requests.
 * - K1 One request is under way at a time. A broker answers a connection's requests in order anyway,
 *   and kafkajs would take any answer for that of a re-authentication.
 * - K2 After a failure or timeout the connection is closed: nobody knows what is still to come on it.
 * - K3 Throttling (KIP-219) delays the next request of this connection.
 */
import Connection from 'kafkajs/src/network/connection.js';
import { PipelineError } from '../../errors.ts';
import type { Logger } from '../../logger.ts';
import { API, type ApiCall, apiVersionsCall, type VersionRange } from './kafka-api.ts';
import { saslOptions, tlsOptions } from './kafka-security.ts';
import { mappedSocketFactory } from './kafka-addresses.ts';
import './kafkajs-timer-fix.ts';
import type { KafkaSourceConfig, SourceContext } from './source-context.ts';

const CONNECT_TIMEOUT_MS = 5000;
/** On top of the time a request asks the broker to wait. */
const REQUEST_TIMEOUT_MS = 30_000;

/** An open connection. */
export class BrokerConnection {
  readonly address: string;
  readonly #connection: Connection;
  readonly #context: SourceContext;
  readonly #versions: Readonly<Record<number, VersionRange>>;
  #tail: Promise<unknown> = Promise.resolve();
  #notBeforeMs = 0;

  private constructor(
    address: string,
    connection: Connection,
    versions: Readonly<Record<number, VersionRange>>,
    context: SourceContext,
  ) {
    this.address = address;
    this.#connection = connection;
    this.#versions = versions;
    this.#context = context;
  }

  /**
   * Connects, learns the broker's versions and authenticates.
   * @throws PipelineError unavailable | invalid TM_SOURCE_DENIED | invalid TM_CONFIG_INVALID
   */
  static async open(
    to: { readonly host: string; readonly port: number },
    config: KafkaSourceConfig,
    context: SourceContext,
  ): Promise<BrokerConnection> {
    const address = `${to.host}:${to.port}`;
    const connection = new Connection({
      ...to,
      clientId: config.clientId,
      ssl: await tlsOptions(config.tls),
      sasl: saslOptions(config.sasl, context.ambient.clock),
      logger: quietLogger(context.logger),
      socketFactory: mappedSocketFactory(config.addressMap),
      connectionTimeout: CONNECT_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
    });
    try {
      await connection.connect();
      const { error, versions } = await send(connection, apiVersionsCall(), CONNECT_TIMEOUT_MS);
      if (error !== 0) throw new Error(`ApiVersions answered with error ${error}`);
      connection.setVersions(versions);
      connection.setSupportAuthenticationProtocol(API.saslAuthenticate.key in versions);
      await connection.authenticate();
      return new BrokerConnection(address, connection, versions, context);
    } catch (thrown) {
      destroy(connection);
      throw sourceError(thrown, address);
    }
  }

  get isOpen(): boolean {
    return this.#connection.isConnected();
  }

  /**
   * The newest version of an API that both sides speak.
   * @throws PipelineError invalid when there is none
   */
  versionOf(name: keyof typeof API): number {
    const ours = API[name];
    const theirs = this.#versions[ours.key];
    const version = Math.min(ours.max, theirs?.maxVersion ?? -1);
    if (version < ours.min || version < (theirs?.minVersion ?? 0)) {
      throw new PipelineError(
        'invalid',
        'TM_SOURCE_UNAVAILABLE',
        'the Kafka broker is too old or too new for us; versions 2.8 to 4.x are supported',
        { context: { api: name, broker: this.address } },
      );
    }
    return version;
  }

  /**
   * Sends a request after those before it and decodes its answer.
   * @param waitMs how long the request itself asks the broker to wait
   * @throws PipelineError unavailable | invalid TM_SOURCE_DENIED
   */
  request<T>(call: ApiCall<T>, waitMs = 0): Promise<T> {
    const answer = this.#tail.then(async () => {
      const { clock } = this.#context.ambient;
      const delayMs = this.#notBeforeMs - clock.monotonicMs();
      if (delayMs > 0) await clock.sleep(delayMs);
      try {
        return await send(this.#connection, call, waitMs + REQUEST_TIMEOUT_MS);
      } catch (thrown) {
        this.close();
        throw sourceError(thrown, this.address);
      }
    });
    this.#tail = answer.catch(() => {});
    return answer;
  }

  /** The broker asked to be left alone for a while (K3). */
  throttle(throttleMs: number): void {
    if (throttleMs > 0) this.#notBeforeMs = this.#context.ambient.clock.monotonicMs() + throttleMs;
  }

  /** Ends the connection at once; requests under way fail with `unavailable`. Idempotent. */
  close(): void {
    destroy(this.#connection);
  }
}

function send<T>(connection: Connection, call: ApiCall<T>, timeoutMs: number): Promise<T> {
  const { apiKey, apiName, apiVersion, body } = call;
  return connection.send<T>({
    request: { apiKey, apiName, apiVersion, encode: async () => ({ buf: body, buffer: body }) },
    response: {
      decode: async (payload) => call.decode(payload),
      parse: async (decoded) => decoded,
    },
    requestTimeout: timeoutMs,
    logResponseError: false,
  });
}

function destroy(connection: Connection): void {
  connection.rejectRequests(new Error('the connection was closed'));
  connection.disconnect().catch(() => {});
  connection.socket?.destroy();
}

/** What kafkajs throws, as our errors. */
export function sourceError(thrown: unknown, address: string): PipelineError {
  if (thrown instanceof PipelineError) return thrown;
  const { name, type, message } = thrown as { name?: string; type?: string; message?: string };
  const context = { broker: address };
  if (name === 'KafkaJSSASLAuthenticationError' || type === 'UNSUPPORTED_SASL_MECHANISM') {
    return new PipelineError('invalid', 'TM_SOURCE_DENIED', 'Kafka refused our credentials', {
      context,
      cause: thrown,
    });
  }
  if (type === 'INVALID_TIMESTAMP') {
    return new PipelineError(
      'invalid',
      'TM_USAGE',
      "Kafka refuses the records' timestamps; keep them within the topic's message.timestamp bounds",
      { context, cause: thrown },
    );
  }
  return new PipelineError(
    'unavailable',
    'TM_SOURCE_UNAVAILABLE',
    `Kafka does not answer: ${message ?? 'unknown failure'}`,
    { context, cause: thrown },
  );
}

/** kafkajs reports as errors what our callers retry: it stays in the debug log. */
function quietLogger(logger: Logger) {
  const log = (message: string, extra?: Readonly<Record<string, unknown>>): void => {
    logger.debug('kafkajs', { note: message, broker: extra?.['broker'] });
  };
  const quiet = { debug: () => {}, info: () => {}, warn: log, error: log, namespace: () => quiet };
  return quiet;
}
