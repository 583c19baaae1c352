import { z } from 'zod'
import { route } from './route.ts'

const one = { access: 'write', tier: 'write', singleton: true } as const

/** The only spelling of a port that is accepted in a path: no sign, no leading zero, no space. */
export const portText = /^[1-9]\d{0,4}$/

export const PreviewLink = z.object({ url: z.string(), token: z.string(), expires_at: z.int() }).meta({ id: 'PreviewLink' })

export const portRoutes = {
  list: route({
    method: 'GET',
    path: '/api/sandboxes/{id}/ports',
    summary: 'List the ports that were asked for; they are reached through the port proxy.',
    ...one,
    access: 'read',
    tier: 'read',
    response: z.object({ ports: z.record(z.string(), z.int()), listening: z.array(z.int()) }),
  }),
  preview: route({
    method: 'POST',
    path: '/api/sandboxes/{id}/ports/{port}/preview',
    summary: 'Make a link that opens the port in a browser until it expires.',
    audit: 'port.share',
    ...one,
    body: z.object({ ttl_seconds: z.int().min(1).max(604_800).default(3600) }),
    response: PreviewLink,
  }),
}

/** The proxy takes any method and any path behind these; it is not in the route table because it has no schema. */
export const portProxyPaths = ['/api/sandboxes/{id}/port/{port}', '/api/sandboxes/{id}/port/{port}/{rest}'] as const
