/** A plain kafkajs client on the pipeline's source settings, for producers and administration. */
import { Kafka, logLevel } from 'kafkajs';
import type { KafkaSourceConfig, SourceContext } from './source-context.ts';
import { mappedSocketFactory } from './kafka-addresses.ts';
import './kafkajs-timer-fix.ts';
import { checkSecurity, saslOptions, tlsOptions } from './kafka-security.ts';

/**
 * A client for `generate` and tests; reading goes through kafka-event-source.ts.
 * @throws PipelineError invalid TM_CONFIG_INVALID
 */
export async function createKafkaClient(
  config: KafkaSourceConfig,
  { ambient, logger }: SourceContext,
): Promise<Kafka> {
  checkSecurity(config.tls, config.sasl);
  const ssl = await tlsOptions(config.tls);
  const sasl = saslOptions(config.sasl, ambient.clock);
  return new Kafka({
    clientId: config.clientId,
    brokers: [...config.brokers],
    ...(ssl ? { ssl } : {}),
    ...(sasl ? { sasl } : {}),
    socketFactory: mappedSocketFactory(config.addressMap),
    connectionTimeout: 5000,
    logLevel: logLevel.WARN,
    logCreator: () => (entry) => {
      logger.debug('kafkajs', { namespace: entry.namespace, note: entry.log.message });
    },
  });
}
