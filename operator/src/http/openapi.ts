// The routes as one OpenAPI 3.1 document, printed from the schemas that parse the requests.
import { failureTable, type Route, routes, singletonPath } from '@atoll/protocol'
import { z } from 'zod'

const ref = (id: string): string => `#/components/schemas/${id}`

/** A named schema by reference, any other in place. `input` is what may be sent, `output` what is answered. */
function schemaOf(schema: z.ZodType, io: 'input' | 'output'): object {
  const id = z.globalRegistry.get(schema)?.id
  if (id !== undefined) return { $ref: ref(io === 'input' ? id : `${id}`) }
  const { $schema: _, ...plain } = z.toJSONSchema(schema, { io, unrepresentable: 'any' })
  return plain
}

const errorSchema = {
  type: 'object',
  required: ['error', 'code'],
  properties: {
    error: { type: 'string' },
    code: { type: 'string', enum: Object.keys(failureTable) },
    retry_after_ms: { type: 'integer' },
  },
}

function bodyOf(route: Route): object | undefined {
  if (route.upload) return { required: true, content: { 'application/octet-stream': { schema: { type: 'string', format: 'binary' } } } }
  return route.body && { required: true, content: { 'application/json': { schema: schemaOf(route.body, 'input') } } }
}

function contentOf(route: Route): object {
  if (route.stream === 'bytes') return { 'application/octet-stream': { schema: { type: 'string', format: 'binary' } } }
  const schema = route.response ? schemaOf(route.response, 'output') : {}
  return { [route.stream === 'events' ? 'text/event-stream' : 'application/json']: { schema } }
}

function operation(route: Route, path: string): object {
  const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => ({ name, in: 'path', required: true, schema: { type: 'string' } }))
  const inQuery = Object.entries(route.query?.shape ?? {}).map(([name, schema]) => ({
    name,
    in: 'query',
    required: false,
    schema: schemaOf(schema as z.ZodType, 'input'),
  }))
  const requestBody = bodyOf(route)
  const status = route.stream === 'websocket' ? 101 : (route.status ?? 200)
  return {
    summary: route.summary,
    'x-access': route.access,
    'x-rate-tier': route.tier,
    ...(route.audit && { 'x-audit': route.audit }),
    security: route.access === 'public' ? [] : [{ bearer: [] }],
    parameters: [...inPath, ...inQuery],
    ...(requestBody && { requestBody }),
    responses: {
      [status]: { description: 'Done.', ...(route.stream !== 'websocket' && { content: contentOf(route) }) },
      default: { description: 'Refused or failed.', content: { 'application/json': { schema: { $ref: ref('Error') } } } },
    },
  }
}

/** Every served path with its route, singleton twins included. */
export function servedRoutes(): { path: string; route: Route }[] {
  const all: Route[] = Object.values(routes).flatMap((group) => Object.values(group))
  return all.flatMap((route) => [{ path: route.path, route }, ...(route.singleton ? [{ path: singletonPath(route.path), route }] : [])])
}

export function openapi(version: string): object {
  const { schemas } = z.toJSONSchema(z.globalRegistry, { uri: ref, io: 'input', unrepresentable: 'any' })
  const paths: Record<string, Record<string, object>> = {}
  for (const { path, route } of servedRoutes()) {
    paths[path] = { ...paths[path], [route.method.toLowerCase()]: operation(route, path) }
  }
  const named = Object.entries(schemas).map(([name, { $schema: _schema, $id: _id, id: _name, ...schema }]) => [name, schema])
  return {
    openapi: '3.1.0',
    info: {
      title: 'Atoll operator',
      version,
      description: 'Sandboxes for AI agents.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    paths,
    components: {
      schemas: { ...Object.fromEntries(named), Error: errorSchema },
      securitySchemes: { bearer: { type: 'http', scheme: 'bearer', description: 'A session token or an API key.' } },
    },
  }
}
