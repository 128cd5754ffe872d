/** What OTEL_* and FAIRLEAD_TRACE_PROVIDERS say, in OpenTelemetry's own words (opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables). */
import { Secret } from '../lib/secret.ts'

export interface TracingSettings {
  /** Where spans go, OTLP over HTTP with JSON. */
  url: URL
  headers: Record<string, Secret>
  resource: Record<string, string>
  /** Of traces that begin here, or of all of them when `parentBased` is false. */
  ratio: number
  parentBased: boolean
  /** Providers are sent a `traceparent`. */
  toProviders: boolean
}

type Reader = (
  name:
    | `OTEL_EXPORTER_OTLP_${'ENDPOINT' | 'TRACES_ENDPOINT' | 'PROTOCOL'}`
    | `OTEL_TRACES_${'SAMPLER' | 'SAMPLER_ARG' | 'EXPORTER'}`
    | 'OTEL_SERVICE_NAME'
    | 'OTEL_RESOURCE_ATTRIBUTES'
    | 'OTEL_SDK_DISABLED'
    | 'FAIRLEAD_TRACE_PROVIDERS',
) => string | undefined

/** Undefined when nobody asked for traces. `secret` also reads the `…_FILE` form. */
export function readTracing(
  value: Reader,
  secret: (name: 'OTEL_EXPORTER_OTLP_HEADERS') => Secret | undefined,
  faults: string[],
): TracingSettings | undefined {
  const own = value('OTEL_EXPORTER_OTLP_TRACES_ENDPOINT')
  const base = value('OTEL_EXPORTER_OTLP_ENDPOINT')
  const off = value('OTEL_SDK_DISABLED') === 'true' || value('OTEL_TRACES_EXPORTER') === 'none'
  const toProviders = value('FAIRLEAD_TRACE_PROVIDERS')
  if (toProviders !== undefined && !/^(true|false)$/.test(toProviders))
    faults.push('FAIRLEAD_TRACE_PROVIDERS must be true or false.')
  if ((own === undefined && base === undefined) || off) return undefined

  // The general endpoint gets the signal's path, the signal's own is taken as it is.
  const name = own === undefined ? 'OTEL_EXPORTER_OTLP_ENDPOINT' : 'OTEL_EXPORTER_OTLP_TRACES_ENDPOINT'
  const url = URL.parse(own ?? `${base!.replace(/\/+$/, '')}/v1/traces`)
  if (!url || !/^https?:$/.test(url.protocol) || url.username || url.password)
    faults.push(`${name} must be an http or https URL without a user, e.g. http://collector:4318.`)
  const protocol = value('OTEL_EXPORTER_OTLP_PROTOCOL')
  if (protocol !== undefined && !/^http\/(json|protobuf)$/.test(protocol))
    faults.push('Traces leave as OTLP over HTTP with JSON: set OTEL_EXPORTER_OTLP_PROTOCOL to http/json.')

  const sampler = value('OTEL_TRACES_SAMPLER') ?? 'parentbased_always_on'
  const [, parent, kind] = /^(parentbased_)?(always_on|always_off|traceidratio)$/.exec(sampler) ?? []
  if (!kind)
    faults.push('OTEL_TRACES_SAMPLER must be always_on, always_off or traceidratio, or one of them after parentbased_.')
  const given = Number(value('OTEL_TRACES_SAMPLER_ARG') ?? 1)
  if (kind === 'traceidratio' && !(given >= 0 && given <= 1))
    faults.push('OTEL_TRACES_SAMPLER_ARG must be a number from 0 to 1.')

  const headers = secret('OTEL_EXPORTER_OTLP_HEADERS')
  return {
    url: url ?? new URL('http://localhost'),
    headers: Object.fromEntries(
      pairs(headers?.reveal(), 'OTEL_EXPORTER_OTLP_HEADERS', faults).map(([key, text]) => [key, new Secret(text)]),
    ),
    resource: {
      ...Object.fromEntries(pairs(value('OTEL_RESOURCE_ATTRIBUTES'), 'OTEL_RESOURCE_ATTRIBUTES', faults)),
      'service.name': value('OTEL_SERVICE_NAME') ?? 'fairlead',
    },
    ratio: kind === 'always_off' ? 0 : kind === 'traceidratio' ? given : 1,
    parentBased: parent !== undefined,
    toProviders: toProviders === 'true',
  }
}

/** `key=value,key=value`, percent-encoded as in W3C Baggage. A fault names the variable, never what it holds. */
function pairs(text: string | undefined, name: string, faults: string[]): [string, string][] {
  const found = (text ?? '')
    .split(',')
    .map(part => part.trim())
    .filter(Boolean)
    .map(part => /^([\w!#$%&'*+.^`|~-]+)\s*=\s*(.*)$/.exec(part))
  try {
    return found.map(match => [match![1]!, decodeURIComponent(match![2]!)])
  } catch {
    faults.push(`${name} must read key=value,key=value, percent-encoded.`)
    return []
  }
}
