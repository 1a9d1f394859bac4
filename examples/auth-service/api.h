/* What the service does: asks for codes and checks them.
 *
 *   POST /auth/request-code {"email": "…"}               200, 400, 429, 503
 *   POST /auth/verify-code  {"email": "…", "code": "…"}  200, 400, 401
 *   GET  /health                                         200 */
#ifndef AUTH_API_H
#define AUTH_API_H

#include <email_producer.h>

#include "codes.h"
#include "http.h"

enum { API_CODE_LIFETIME_SECONDS = 600 };

struct api {
    email_producer *producer; /* borrowed */
    struct codes *codes;      /* borrowed; touched by the HTTP server's thread alone */
};

/* An http_handler_fn; its context is a struct api. */
void api_handle(void *context, const struct http_request *request, struct http_response *response);

#endif
