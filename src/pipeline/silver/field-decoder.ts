/** The decoder that belongs to a declared type. Pure. */
import { PipelineError } from '../../errors.ts';
import type { DataType } from '../types.ts';
import type { DecodeContext, FieldDecoder } from './decoder.ts';
import { ArrayDecoder, MapDecoder, StructDecoder } from './nested-decoders.ts';
import {
  BinaryDecoder,
  BooleanDecoder,
  DateDecoder,
  DecimalDecoder,
  FloatingDecoder,
  LongDecoder,
  SmallIntegerDecoder,
  StringDecoder,
  TimestampDecoder,
} from './scalar-decoders.ts';

const INTEGER_BITS = { byte: 8, short: 16, integer: 32 } as const;

/**
 * The decoder of a declared type.
 * @throws PipelineError invalid for a map whose keys are not strings
 */
export function decoderFor(type: DataType, context: DecodeContext): FieldDecoder {
  switch (type.kind) {
    case 'decimal':
      return new DecimalDecoder(type, context);
    case 'array':
      return new ArrayDecoder(type, decoderFor(type.element, context), context);
    case 'map':
      if (type.key.kind !== 'primitive' || type.key.name !== 'string') {
        throw new PipelineError(
          'invalid',
          'TM_CONFIG_INVALID',
          'event.schema.fields: the keys of a map must be strings, as in map<string,long>',
        );
      }
      return new MapDecoder(type, decoderFor(type.value, context), context);
    case 'struct': {
      const members = type.fields.map((f) => decoderFor(f.type, context));
      return new StructDecoder(type, members, context);
    }
    case 'primitive':
      switch (type.name) {
        case 'string':
          return new StringDecoder(type, context);
        case 'binary':
          return new BinaryDecoder(type, context);
        case 'boolean':
          return new BooleanDecoder(type, context);
        case 'float':
        case 'double':
          return new FloatingDecoder(type, context);
        case 'date':
          return new DateDecoder(type, context);
        case 'timestamp':
          return new TimestampDecoder(type, context);
        case 'long':
          return new LongDecoder(type, context);
        default:
          return new SmallIntegerDecoder(type, INTEGER_BITS[type.name], context);
      }
  }
}
