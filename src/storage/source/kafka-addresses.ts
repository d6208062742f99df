/**
 * Addresses of brokers: as the pipeline file and Kafka's metadata write them, and where they are
 * really reached.
 */
import type { ISocketFactory } from 'kafkajs';
import createSocketFactory from 'kafkajs/src/network/socketFactory.js';
import { PipelineError } from '../../errors.ts';

/**
 * Host and port of a broker's address.
 * @param address `host:port`, an IPv6 host in brackets; port 9092 when left out
 * @throws PipelineError invalid TM_CONFIG_INVALID
 */
export function parseBrokerAddress(address: string): {
  readonly host: string;
  readonly port: number;
} {
  const match = /^(?:\[(?<v6>[^\]]+)\]|(?<name>[^:]+))(?::(?<port>\d+))?$/.exec(address);
  const host = match?.groups?.['v6'] ?? match?.groups?.['name'];
  if (!host) {
    throw new PipelineError('invalid', 'TM_CONFIG_INVALID', 'source.brokers: expected host:port', {
      context: { broker: address },
    });
  }
  return { host, port: Number(match?.groups?.['port'] ?? 9092) };
}

/**
 * Dials `addressMap[host:port]` where there is one. TLS goes on naming the host that was meant, which
 * is what the broker's certificate says.
 */
export function mappedSocketFactory(addressMap: Readonly<Record<string, string>>): ISocketFactory {
  const dial = createSocketFactory();
  return (wanted) => {
    const { host, port, ssl } = wanted;
    const mapped = addressMap[`${host.includes(':') ? `[${host}]` : host}:${port}`];
    if (mapped === undefined) return dial(wanted);
    const reached = parseBrokerAddress(mapped);
    return dial({ ...wanted, ...reached, ssl: ssl && { servername: host, ...ssl } });
  };
}
