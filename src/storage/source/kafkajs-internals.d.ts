/** Types for the inner modules of kafkajs 2.2.4 that the Kafka adapter uses; it ships none for them. */
declare module 'kafkajs/src/network/connection.js' {
  interface ConnectionLog {
    namespace(name: string): ConnectionLog;
    debug(message: string, extra?: Readonly<Record<string, unknown>>): void;
    info(message: string, extra?: Readonly<Record<string, unknown>>): void;
    warn(message: string, extra?: Readonly<Record<string, unknown>>): void;
    error(message: string, extra?: Readonly<Record<string, unknown>>): void;
  }

  class Connection {
    constructor(options: {
      readonly host: string;
      readonly port: number;
      readonly clientId: string;
      readonly ssl: import('node:tls').ConnectionOptions | null;
      readonly sasl: import('kafkajs').SASLOptions | null;
      readonly logger: ConnectionLog;
      readonly socketFactory: import('kafkajs').ISocketFactory;
      /** Milliseconds. */
      readonly connectionTimeout: number;
      /** Milliseconds; the least that a request may take. */
      readonly requestTimeout: number;
    });

    /** Set by `connect`. */
    readonly socket?: { destroy(): void };

    connect(): Promise<unknown>;
    isConnected(): boolean;
    setVersions(
      versions: Readonly<
        Record<number, { readonly minVersion: number; readonly maxVersion: number }>
      >,
    ): void;
    setSupportAuthenticationProtocol(isSupported: boolean): void;
    authenticate(): Promise<void>;
    send<T>(call: {
      readonly request: {
        readonly apiKey: number;
        readonly apiName: string;
        readonly apiVersion: number;
        encode(): Promise<{ readonly buf: Buffer; readonly buffer: Buffer }>;
      };
      readonly response: {
        decode(payload: Buffer): Promise<T>;
        parse(decoded: T): Promise<T>;
      };
      readonly requestTimeout?: number;
      readonly logResponseError?: boolean;
    }): Promise<T>;
    rejectRequests(error: Error): void;
    disconnect(): Promise<unknown>;
  }

  export = Connection;
}

declare module 'kafkajs/src/network/socketFactory.js' {
  function createSocketFactory(): import('kafkajs').ISocketFactory;

  export = createSocketFactory;
}

declare module 'kafkajs/src/network/requestQueue/index.js' {
  class RequestQueue {
    readonly pending: readonly unknown[];
    scheduleCheckPendingRequests: (this: RequestQueue) => void;
  }

  export = RequestQueue;
}
