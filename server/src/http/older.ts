/** `/connection…` and its query, as older clients spell `/connections…`; anything else as it is. */
export const currentPath = (url: string): string => url.replace(/^\/connection(?=[/?]|$)/, '/connections')
