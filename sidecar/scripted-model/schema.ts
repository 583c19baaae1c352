// Arguments for a tool that is only known by its JSON schema.
import { isRecord, type Json, list, record, text } from './json.ts'

type Known = Readonly<Record<string, unknown>>

function typeOf(schema: Json): string {
  const given = Array.isArray(schema['type']) ? list(schema['type']).find((type) => type !== 'null') : schema['type']
  return (text(given) || (isRecord(schema['properties']) ? 'object' : 'string')).toLowerCase()
}

/** Tools that mean the same want it in different forms. */
function knownValue(value: unknown, schema: Json, depth: number): unknown {
  const type = typeOf(schema)
  if (type === 'array' && !Array.isArray(value)) return ['bash', '-lc', String(value)]
  return type === 'object' && !isRecord(value) ? fill(schema, depth) : value
}

/** An object that the schema accepts: `known` where it names a property, else the plainest value for what is required. */
export function fillObject(schema: Json, known: Known = {}, depth = 0): Json {
  const required = list(schema['required'])
  const entries = Object.entries(record(schema['properties'])).flatMap(([name, property]): [string, unknown][] => {
    const propertySchema = record(property)
    const value = known[name]
    if (value !== undefined) return [[name, knownValue(value, propertySchema, depth + 1)]]
    return required.includes(name) ? [[name, fill(propertySchema, depth + 1)]] : []
  })
  return Object.fromEntries(entries)
}

function fillList(schema: Json, depth: number): unknown[] {
  const least = typeof schema['minItems'] === 'number' ? schema['minItems'] : 0
  const count = Math.max(least, depth < 3 ? 1 : 0)
  return Array.from({ length: count }, () => fill(record(schema['items']), depth + 1))
}

/** The plainest value that a schema accepts. */
export function fill(schema: Json, depth = 0): unknown {
  if (Array.isArray(schema['enum'])) return list(schema['enum'])[0]
  if (schema['const'] !== undefined) return schema['const']
  const choices = list(schema['anyOf'] ?? schema['oneOf'])
  if (choices.length > 0 && schema['type'] === undefined) return fill(record(choices[0]), depth)
  switch (typeOf(schema)) {
    case 'object':
      return fillObject(schema, {}, depth)
    case 'array':
      return fillList(schema, depth)
    case 'number':
    case 'integer':
      return schema['minimum'] ?? 1
    case 'boolean':
      return false
    default:
      return 'scripted'
  }
}
