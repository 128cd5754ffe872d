import type { IntegrationView } from '@fairlead/contract'

/** From the server this page came from, whatever name the server calls itself by: the page's policy allows no other. */
export const logoOf = ({ logo }: Pick<IntegrationView, 'logo'>): string => new URL(logo, location.href).pathname
